"""The work folder of an export of recordings: finished chunks of frames, and the state of the tracker after the last one."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from safetensors.numpy import save_file

from ...common.errors import UserError
from ...common.files import write_atomically
from ...common.inputs.archives import NUMBERS, TEXT, read_arrays
from ...common.inputs.safetensors_file import open_safetensors
from ...common.text import parse_json
from .track_rows import TrackPart
from .work_folder import FinishedPart, WorkFolder

_STATE = re.compile(r"video-(\d+)\.npz")


@dataclass(frozen=True)
class RecordingProgress:
    """How far a recording has been followed.

    Args:
        num_chunks: number of finished chunks.
        next_frame: number of the first frame that is not in them.
        num_frames: frames in them.
        done: whether the recording has ended.
        file: fingerprint of the recording's file.
        name, start: of a live recording: name, and time of its first frame (ISO 8601).
    """

    num_chunks: int = 0
    next_frame: int = 0
    num_frames: int = 0
    done: bool = False
    file: str = ""
    name: str = ""
    start: str = ""


class RecordingFolder(WorkFolder):
    """Chunks and states by the number of the recording. A state is written after its chunk and makes it valid."""

    def numbers(self) -> list[int]:
        """Return the numbers of the recordings that have a state, ascending."""
        found = [_STATE.fullmatch(path.name) for path in self.folder.iterdir()]
        return sorted(int(match[1]) for match in found if match)

    def progress(self, number: int) -> RecordingProgress:
        """Return how far recording `number` has been followed."""
        return self.load(number)[0]

    def load(self, number: int) -> tuple[RecordingProgress, dict[str, np.ndarray]]:
        """Return the progress of recording `number` and the state of its tracks; a new one if there is none."""
        try:
            state = read_arrays(self._state(number), NUMBERS + TEXT)
            return RecordingProgress(**parse_json(bytes(state.pop("progress")), "progress")), state
        except (OSError, ValueError, KeyError, TypeError):  # missing, damaged, or of another version
            return RecordingProgress(), {}

    def save(self, number: int, part: TrackPart, progress: RecordingProgress, state: dict[str, np.ndarray]) -> None:
        """Write the last chunk of `progress`, then the state after it."""
        texts = json.dumps([part.records, [[name, len(content)] for name, content in part.images]]).encode()
        content = b"".join(content for _, content in part.images)
        tensors = {
            "embeddings": part.embeddings,
            "rows": np.frombuffer(texts, np.uint8),
            "images": np.frombuffer(content, np.uint8),
        }
        write_atomically(self._chunk(number, progress.num_chunks - 1), lambda temporary: save_file(tensors, temporary))
        packed, arrays = io.BytesIO(), {"progress": np.frombuffer(json.dumps(asdict(progress)).encode(), np.uint8)}
        np.savez(packed, **arrays, **({} if progress.done else state))  # type: ignore[arg-type]
        write_atomically(self._state(number), lambda temporary: temporary.write_bytes(packed.getvalue()))

    def parts(self, schema: pa.Schema) -> Iterator[FinishedPart]:
        """Yield all chunks.

        Args:
            schema: columns of the records.
        """
        for file in self._chunks():
            records, names = parse_json(bytes(_load(file, "rows")), str(file))
            table = pa.Table.from_pylist(records, schema).drop_columns("id")
            yield FinishedPart(table, partial(_load, file, "embeddings"), (), partial(_images, file, names))

    def _chunks(self) -> Iterator[Path]:
        for number in self.numbers():
            for chunk in range(self.progress(number).num_chunks):
                yield self._chunk(number, chunk)

    def _state(self, number: int) -> Path:
        return self.folder / f"video-{number:06d}.npz"

    def _chunk(self, number: int, chunk: int) -> Path:
        return self.folder / f"video-{number:06d}-{chunk:08d}.safetensors"


def _load(file: Path, name: str) -> np.ndarray:
    """Return the embeddings (N, D) of a chunk, its rows or its images as `save` writes them."""
    try:
        with open_safetensors(file, "np") as opened:
            return opened.get_tensor(name)
    except (OSError, UserError) as error:
        raise UserError(
            f"{file} is missing or damaged ({error}); delete {file.name[:12]}.npz next to it and run the export again. Under "
            "torchrun all processes need the same disk"
        ) from error


def _images(file: Path, names: list[tuple[str, int]]) -> list[tuple[str, bytes]]:
    """Return (name, content) of the images of a chunk, given name and length of each."""
    content, start, found = _load(file, "images"), 0, []
    for name, length in names:
        found.append((name, content[start : start + length].tobytes()))
        start += length
    return found
