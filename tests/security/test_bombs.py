"""Small files that would take much memory or time: refused by name before they do."""

import io
import json
import struct
import zipfile
import zlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')

import bomb_reading

from vitreid.benchmarks.attacks.sound_boxes import CVAT
from vitreid.benchmarks.attacks.stranger_files import CONFIG, read, sample_of

MEGABYTES = 400  # that refusing a bomb may take, libraries that are loaded only now included


def zeros_in_npz(sound, size=10**8):
    """100 kB that unpack to 100 MB."""
    target = io.BytesIO()
    np.savez_compressed(target, zeros=np.zeros(size, np.uint8))
    return target.getvalue()


def huge_array_in_npz(sound):
    """A header that asks for 8 * 10^18 bytes."""
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1000000), }".ljust(117) + b"\n"
    return zipped({"rows.npy": b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head})


def zipped(parts, kind=zipfile.ZIP_STORED):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", kind) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return target.getvalue()


def many_parts(sound):
    return zipped({f"{number}.npy": b"" for number in range(100_001)})


def zeros_in_torch(sound):
    """A sound file with one more part of zeros, of 100 MB."""
    with zipfile.ZipFile(io.BytesIO(sound)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    place = next(iter(parts)).partition("/")[0]
    return zipped({**parts, f"{place}/data/99": bytes(10**8)}, zipfile.ZIP_DEFLATED)


def stretched_tensor(sound):
    """One number as 10^12 numbers."""
    target = io.BytesIO()
    torch.save({"state_dict": {"blocks.0.weight": torch.zeros(1).expand(10**6, 10**6)}}, target)
    return target.getvalue()


def lists_of_lists(sound, depth=60):
    """2^60 values, as each list holds the one before twice."""
    value = [torch.zeros(1)]
    for _ in range(depth):
        value = [value, value]
    target = io.BytesIO()
    torch.save({"format": 1, "state_dict": {"a": torch.zeros(1)}, "more": value}, target)
    return target.getvalue()


def distant_memo(sound):
    """An object that is to be remembered under the number 2^28."""
    return b"\x80\x02]r" + (2**28).to_bytes(4, "little") + b"." + sound


def long_bytearray(sound):
    """A bytearray of 2^62 bytes, of which the file has few."""
    return b"\x80\x05\x96" + (2**62).to_bytes(8, "little") + b"." + sound


def with_spec(**changes):
    def change(sound):
        size = struct.unpack("<Q", sound[:8])[0]
        header = json.loads(sound[8 : 8 + size])
        spec = json.loads(header["__metadata__"]["vitreid.spec"])
        header["__metadata__"]["vitreid.spec"] = json.dumps({**spec, **changes})
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + sound[8 + size :]

    return change


def claimed_tensor(sound):
    """A header that states a tensor of 2^60 numbers."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**30, 2**30], "data_offsets": [0, 2**62]}}).encode()
    return struct.pack("<Q", len(header)) + header


def claimed_header(sound):
    return struct.pack("<Q", 2**40) + b"{" + bytes(1000)


def nested(sound):
    return b"[" * 200_000


def aliases(sound):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return CONFIG.encode() + "\n".join(lines).encode()


def png_of(side):
    def make(sound):
        packer, rows = zlib.compressobj(9), bytes(side + 1)
        data = b"".join([*(packer.compress(rows) for _ in range(side)), packer.flush()])
        header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
        chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
        parts = [
            len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
            for kind, body in chunks
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)

    return make


def many_scans(sound, count=2000):
    buffer = io.BytesIO()
    Image.new("RGB", (1000, 1000)).save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    start, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    return content[:start] + content[start:end] * count + content[end:]


def one_text_everywhere(sound):
    """A text of 1 MB in 240 rows, stored once."""
    return parquet_with(sound, "path", pa.array(["x" * 2**20] * 240))


def one_list_everywhere(sound):
    """2^17 zeros in each of 240 rows, stored as runs."""
    length = 2**17
    offsets = pa.array(np.arange(0, 240 * length + 1, length), pa.int32())
    return parquet_with(sound, "note", pa.ListArray.from_arrays(offsets, pa.array(np.zeros(240 * length, np.int64))))


def one_text_in_lists(sound):
    """The text of 2^22 characters in a list of one in each of 240 rows."""
    return parquet_with(sound, "note", pa.array([["a" * 2**22]] * 240))


def parquet_with(sound, name, column):
    table = pq.read_table(io.BytesIO(sound))
    target = io.BytesIO()
    pq.write_table(table.set_column(table.column_names.index(name), name, column), target)
    return target.getvalue()


def gallery_of(**changes):
    return lambda sound: json.dumps({**json.loads(sound), **changes}).encode()


def entities(sound):
    """A billion laughs."""
    lines = ['<!ENTITY a0 "ha">', *(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))]
    return f'<?xml version="1.0"?><!DOCTYPE x [{"".join(lines)}]><annotations>&a9;</annotations>'.encode()


def endless_track(sound):
    """Two key frames, 10^12 frames apart."""
    return CVAT.replace('frame="6"', 'frame="1000000000000"').encode()


def one_line(sound):
    return sound + b"x" * 2_000_000


def open_quote(sound):
    return sound + b'"' + b"x,\n" * 700_000


BOMBS = {
    "weights: NumPy": [zeros_in_npz, huge_array_in_npz, many_parts],
    "weights: torch": [zeros_in_torch, stretched_tensor, lists_of_lists],
    "weights: torch before 1.6": [distant_memo, long_bytearray],
    "weights: last.pth": [zeros_in_torch, lists_of_lists],
    "weights: best.safetensors": [
        with_spec(depth=10**6),
        with_spec(embed_dim=10**9),
        with_spec(img_size=[10**6, 10**6]),
        with_spec(cameras=[f"c{number}" for number in range(300_000)]),
        claimed_tensor,
        claimed_header,
    ],
    "weights: safetensors": [claimed_tensor, claimed_header],
    "features": [claimed_tensor, claimed_header],
    "image: png": [png_of(9000)],
    "image: jpg": [many_scans],
    "config: recipe": [aliases, nested],
    "config: stored": [aliases, nested],
    "gallery: gallery.json": [
        nested,
        gallery_of(dimension=10**12),
        gallery_of(count=10**12),
        gallery_of(dimension=10**400),
    ],
    "gallery: projection.npz": [zeros_in_npz, huge_array_in_npz],
    "gallery: records.parquet": [one_text_everywhere, one_list_everywhere, one_text_in_lists],
    "description: embedder": [nested],
    "description: detector": [nested],
    "boxes: coco": [nested],
    "boxes: results": [nested],
    "boxes: cvat tracks": [entities, endless_track],
    "boxes: csv": [one_line],
    "boxes: mot": [one_line],
    "table: manifest": [one_line, open_quote],
    "table: images": [one_line, open_quote],
}
CASES = [
    pytest.param(kind, bomb, id=f"{kind}-{getattr(bomb, '__name__', '')}{i}")
    for kind, bombs in BOMBS.items()
    for i, bomb in enumerate(bombs)
]


@pytest.fixture(scope="module")
def reader():
    """A process that reads files and measures itself."""
    with ProcessPoolExecutor(1, get_context("spawn"), bomb_reading.prepare) as pool:
        yield pool


@pytest.mark.parametrize("kind, bomb", CASES)
def test_a_bomb_is_refused_by_name_before_it_takes_memory(kind, bomb, reader, tmp_path):
    path = sample_of(kind, tmp_path / "made")
    reader.submit(read, kind, path).result()  # a sound one first: what libraries take for themselves is not the bomb's
    path.write_bytes(bomb(path.read_bytes()))
    assert path.stat().st_size < 10_000_000
    refusal, taken = reader.submit(bomb_reading.read_measured, kind, path).result()
    if taken is None:
        pytest.skip("this system does not reset its memory counter")
    assert refusal, "it was read"
    assert path.name in refusal or "/gallery/" in refusal or kind.startswith("config"), refusal
    assert taken / 1e6 < MEGABYTES
