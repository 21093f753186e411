"""The size of an image from the first bytes of its file, so that the memory and time of decoding are known before."""

from __future__ import annotations

import io
import struct

from PIL import Image

PIXELS = 2**26  # largest decoded image, 8192 x 8192: a frame of an 8K video has half of that
SCANS = 64  # of a progressive JPEG; encoders write up to 20
SCANNED_PIXELS = 2**30  # pixels times scans: 4 seconds of a core
CHUNK = 2**24  # bytes of a PNG's chunk in a file that is shorter than it: cut short, but harmless
CHUNKS = 2**17  # of a PNG; encoders write at least 8 kB into one

_JPEG_SIZE = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of a frame's header (SOF0 to SOF15)
_JPEG_BARE = frozenset([0x01, *range(0xD0, 0xD8)])  # markers without a length


def refusal(content: bytes, most_pixels: int = PIXELS) -> str:
    """Return why an image is not decoded, "" if it may be: too many pixels or scans, or a size that is not known before.

    Args:
        most_pixels: limit of height * width.
    """
    size = image_size(content)
    if size is None:
        return "is of no kind that OpenCV and Pillow know, or damaged"
    pixels = size[0] * size[1]
    if not pixels:
        return "has no pixels"
    if pixels > most_pixels:
        return f"has {size[1]} x {size[0]} pixels, more than the {most_pixels / 1e6:.0f} million that are decoded"
    if content.startswith(b"\x89PNG") and (damage := _damage_of_chunks(content)):
        return f"is a damaged PNG: {damage}"
    scans = content.count(b"\xff\xda") if content.startswith(b"\xff\xd8") else 1
    if scans > SCANS or scans * pixels > SCANNED_PIXELS:
        return f"is a JPEG of {scans} scans, which would take too long to decode"
    return ""


def image_size(content: bytes) -> tuple[int, int] | None:
    """Return (height, width) in pixels of a JPEG, PNG, BMP, GIF or WebP file, or of a kind that Pillow knows; else None."""
    for start, read in _READERS.items():
        if content.startswith(start):
            try:
                return read(content)
            except (struct.error, IndexError, ValueError):  # cut short
                return None
    return _by_pillow(content)


def _jpeg(content: bytes) -> tuple[int, int]:
    place = 2
    while True:
        place = content.index(b"\xff", place)  # decoders skip other bytes between two segments
        while content[place] == 0xFF:  # fill bytes
            place += 1
        marker, place = content[place], place + 1
        if marker in _JPEG_SIZE:
            height, width = struct.unpack_from(">HH", content, place + 3)
            return height, width
        if marker not in _JPEG_BARE:
            place += max(2, struct.unpack_from(">H", content, place)[0])


def _png(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", content, 16)
    return height, width


def _damage_of_chunks(content: bytes) -> str:
    """Return what is wrong with the chunks of a PNG, "" = nothing: decoders take as much memory at once as a chunk says it has."""
    place = 8
    for _ in range(CHUNKS):
        if place + 8 > len(content):
            return ""
        length = struct.unpack_from(">I", content, place)[0]
        if length > max(len(content), CHUNK):
            return f"one of its parts would have {length / 1e6:,.0f} MB, the file has {len(content) / 1e6:,.1f}"
        place += 12 + length
    return f"it has more than {CHUNKS:,} parts"


def _bmp(content: bytes) -> tuple[int, int]:
    if struct.unpack_from("<I", content, 14)[0] == 12:  # the header of OS/2
        width, height = struct.unpack_from("<HH", content, 18)
        return height, width
    width, height = struct.unpack_from("<ii", content, 18)
    return abs(height), abs(width)  # a negative height: rows from top to bottom


def _gif(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", content, 6)
    return height, width


def _riff(content: bytes) -> tuple[int, int] | None:
    """WebP: lossy, lossless or extended."""
    kind = content[8:16]
    if kind == b"WEBPVP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return height & 0x3FFF, width & 0x3FFF
    if kind == b"WEBPVP8L":
        bits = struct.unpack_from("<I", content, 21)[0]
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"WEBPVP8X":
        width, height = (int.from_bytes(content[place : place + 3], "little") + 1 for place in (24, 27))
        return height, width
    return None


_READERS = {b"\xff\xd8": _jpeg, b"\x89PNG": _png, b"BM": _bmp, b"GIF8": _gif, b"RIFF": _riff}


def _by_pillow(content: bytes) -> tuple[int, int] | None:
    """Return the size that Pillow reads from the header; it decodes nothing until it is asked for pixels."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.height, image.width
    except Image.DecompressionBombError:
        return PIXELS + 1, 1
    except Exception:  # Pillow raises errors of many kinds for damaged files
        return None
