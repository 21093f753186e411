"""Random changes of a sound file's bytes: of any byte, and, where the form is known, of what stands behind lengths and sums."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
NUMBERS = (
    0,
    -1,
    1,
    0.5,
    -0.0,
    1e308,
    -1e308,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    10**40,
    1e-320,
    float("nan"),
    float("inf"),
)
TEXTS = (
    "",
    " ",
    "\0",
    "x" * 5000,
    "../../../../etc/passwd",
    "/etc/passwd",
    "~root",
    "nan",
    "-1",
    "1e999",
    "\x1b[2J",
    "\ud800",
    "=1+1",
    "%s%n",
    "*a",
    "c:\\x",
    "𝒜" * 9,
    "0x10",
    "1_0",
    "١٢",
    "a,b;c\td",
    "true",
    "null",
    "hf-hub:a/b",
    "http://127.0.0.1:9/x",
)
LARGEST = 2**25  # bytes of a changed file; to make and write a larger one would take longer than to read it
VALUES: tuple[Any, ...] = (
    *NUMBERS,
    *TEXTS,
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"a": {"b": []}},
    [0] * 300,
)


def mutate(content: bytes, form: str, rng: Random, others: Sequence[bytes] = ()) -> bytes:
    """Return changed bytes.

    Args:
        form: one of FORMS; a part of the changes keeps to it.
        others: contents of other kinds of files, of which parts are taken.
    """
    if rng.random() < 0.02:
        return rng.choice(others) if others else b""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        change = FORMS[form] if rng.random() < 0.6 else _bytes
        try:
            content = change(content, rng)
        except Exception:  # an earlier change has spoiled the form
            content = _bytes(content, rng)
        content = content[:LARGEST]
    return content


def _bytes(content: bytes, rng: Random) -> bytes:
    """Change, insert, remove or repeat bytes at a random place."""
    if not content:
        return rng.randbytes(rng.randrange(64))
    data, place = (
        bytearray(content),
        rng.randrange(len(content)) if rng.random() < 0.7 else rng.randrange(min(64, len(content))),
    )
    length = min(len(data) - place, rng.choice((1, 1, 2, 4, 8, 64, 1024)))
    match rng.randrange(8):
        case 0:
            data[place] ^= 1 << rng.randrange(8)
        case 1:
            data[place : place + length] = rng.randbytes(length)
        case 2:
            del data[place : place + length]
        case 3:
            data[place:place] = rng.randbytes(length)
        case 4:
            data[place:place] = data[place : place + length] * rng.choice((1, 2, 50))
        case 5:
            size, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
            value = rng.choice(EXTREMES) % 256**size
            data[place : place + size] = value.to_bytes(size, order)
        case 6:
            del data[place:]
        case _:
            data[place : place + length] = bytes(length)
    return bytes(data)


def _text(content: bytes, rng: Random) -> bytes:
    """Replace a word or a number, or repeat, remove or swap lines."""
    text = content.decode("utf-8", "surrogateescape")
    lines = text.split("\n")
    match rng.randrange(6):
        case 0 | 1 | 2:
            words = list(re.finditer(r"[^\s,:;\"'<>=\[\]{}()]+", text))
            word = rng.choice(words)
            text = text[: word.start()] + _scalar(rng) + text[word.end() :]
        case 3:
            text = "\n".join([*lines, *(rng.choice(lines) for _ in range(rng.choice((1, 3, 2000))))])
        case 4:
            lines.pop(rng.randrange(len(lines)))
            text = "\n".join(lines)
        case _:
            mark = rng.choice(",:;\"'<>=[]{}()&*!|\t\r\n\ufeff")
            place = rng.randrange(len(text) + 1)
            text = text[:place] + mark * rng.choice((1, 1, 2, 3000)) + text[place:]
    return text.encode("utf-8", "surrogatepass")


def _scalar(rng: Random) -> str:
    return str(rng.choice(NUMBERS)) if rng.random() < 0.5 else rng.choice(TEXTS)


def _json(content: bytes, rng: Random) -> bytes:
    """Replace, remove or add a value anywhere."""
    return json.dumps(_changed(json.loads(content), rng)).encode()


def _changed(value: Any, rng: Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {other: item for other, item in value.items() if other != key}
        if rng.random() < 0.05:
            return {**value, str(rng.choice(TEXTS)): rng.choice(VALUES)}
        return {**value, key: _changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        if rng.random() < 0.15:
            return value[:place] + value[place + 1 :]
        return [*value[:place], _changed(value[place], rng), *value[place + 1 :]]
    if isinstance(value, str) and value[:1] in ("{", "[") and rng.random() < 0.8:  # JSON in JSON
        return json.dumps(_changed(json.loads(value), rng))
    return rng.choice(VALUES)


def _safetensors(content: bytes, rng: Random) -> bytes:
    """Change the header, and state its length."""
    size = struct.unpack("<Q", content[:8])[0]
    header = json.dumps(_changed(json.loads(content[8 : 8 + size]), rng)).encode()
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def _zip(content: bytes, rng: Random) -> bytes:
    """Change a part of the archive; the sums fit."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(target, "w") as changed:
        names = archive.namelist()
        chosen = (
            rng.choice([name for name in names if name.endswith(".pkl")] or names)
            if rng.random() < 0.5
            else rng.choice(names)
        )
        for name in names:
            part = archive.read(name)
            if name == chosen:
                if rng.random() < 0.05:
                    continue
                part = _npy(part, rng) if name.endswith(".npy") and rng.random() < 0.6 else _bytes(part, rng)
                name = rng.choice(TEXTS[3:7]) if rng.random() < 0.03 else name
            changed.writestr(zipfile.ZipInfo(name), part)  # without the time of day
    return target.getvalue()


def _npy(content: bytes, rng: Random) -> bytes:
    """Change a word of an .npy file's header, which keeps its length."""
    size = 10 + struct.unpack("<H", content[8:10])[0]
    text = content[10:size].decode("latin1")
    words = list(re.finditer(r"[0-9]+|[a-z_]+|[<>|][a-z][0-9]+|True|False", text))
    word = rng.choice(words)
    new = rng.choice(("0", "1", "99999999999", "-1", "<f8", "|O", "<U9999", ">f2", "|V8", "True", "x"))
    header = (text[: word.start()] + new + text[word.end() :]).rstrip("\n ").ljust(size - 11)[: size - 11] + "\n"
    return content[:10] + header.encode("latin1") + content[size:]


def _parquet(content: bytes, rng: Random) -> bytes:
    """Write the table again with another column, type or order."""
    table = pq.read_table(io.BytesIO(content))
    name = rng.choice(table.column_names)
    place = table.column_names.index(name)
    match rng.randrange(6):
        case 0:
            table = table.drop_columns([name])
        case 1:
            values = [rng.choice((*NUMBERS[:5], None)) for _ in range(len(table))]
            table = table.set_column(place, name, pa.array(values, pa.float64()))
        case 2:
            texts = [rng.choice(TEXTS[:12]).encode("utf-8", "replace").decode() for _ in range(len(table))]
            table = table.set_column(place, name, pa.array(texts, rng.choice((pa.string(), pa.large_string()))))
        case 3:
            table = table.set_column(
                place, name, pa.nulls(len(table), rng.choice((pa.null(), pa.int8(), pa.list_(pa.int8()))))
            )
        case 4:
            table = table.append_column(rng.choice((name, "", "x" * 999, "id")), table[name])
        case _:
            table = rng.choice(
                (
                    table.slice(1),
                    pa.concat_tables([table] * 2),
                    table.slice(0, 0),
                    table.take(list(range(len(table)))[::-1]),
                )
            )
    target = io.BytesIO()
    keeps = rng.random() < 0.7
    metadata = (
        pq.read_schema(io.BytesIO(content)).metadata
        if keeps
        else {b"vitreid.embeddings": rng.choice((b"", b"1", b"x y", b"9 9"))}
    )
    pq.write_table(table.replace_schema_metadata(metadata), target)
    return target.getvalue()


def _png(content: bytes, rng: Random) -> bytes:
    """Change the body of a chunk, and state its length and sum."""
    chunks, place = [], 8
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += size + 12
    number = rng.randrange(len(chunks))
    name, body = chunks[number]
    if name == b"IDAT" and rng.random() < 0.5:
        body = zlib.compress(_bytes(zlib.decompress(body), rng))
    else:
        body = _bytes(body, rng)
    chunks[number] = (name, body)
    parts = [
        len(one).to_bytes(4, "big") + kind + one + zlib.crc32(kind + one).to_bytes(4, "big") for kind, one in chunks
    ]
    return content[:8] + b"".join(parts)


def _request(content: bytes, rng: Random) -> bytes:
    """Change the head, or the body in its form."""
    head, _, body = content.partition(b"\n\n")
    if not body or rng.random() < 0.15:
        return _text(head, rng) + b"\n\n" + body
    change = _json if b"json" in head else rng.choice((_text, _bytes))
    return head + b"\n\n" + change(body, rng)


FORMS: dict[str, Callable[[bytes, Random], bytes]] = {
    "bytes": _bytes,
    "text": _text,
    "table": _text,
    "json": _json,
    "safetensors": _safetensors,
    "zip": _zip,
    "npy": _npy,
    "parquet": _parquet,
    "png": _png,
    "request": _request,
}
