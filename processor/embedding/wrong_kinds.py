"""What a file is, by its first bytes, for messages about a file of the wrong kind."""

from __future__ import annotations

from pathlib import Path

_STARTS = {
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"GIF8": "a GIF picture",
    b"BM": "a BMP picture",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"%PDF": "a PDF document",
    b"\x1aE\xdf\xa3": "a video",
}
_TEXTS = {".yml": "a recipe", ".yaml": "a recipe", ".csv": "a CSV file", ".json": "a JSON file", ".txt": "a text"}


def kind_of(path: Path) -> str:
    """Return what a file is if it is one of the kinds that people mix up with weights, e.g. "a JPEG picture"; else ""."""
    with path.open("rb") as file:
        start = file.read(12)
    if start[:4] == b"RIFF" and start[8:12] in (b"WEBP", b"AVI "):
        return "a WebP picture" if start[8:12] == b"WEBP" else "a video"
    if start[4:8] == b"ftyp":
        return "a video or a picture of a phone (MP4, HEIC)"
    found = next((kind for first, kind in _STARTS.items() if start.startswith(first)), "")
    return found or _TEXTS.get(path.suffix.lower(), "")
