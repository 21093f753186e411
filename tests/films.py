"""Small films for the tests of tracking: frames of noise, in a folder or as a video."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

HEIGHT, WIDTH, NUM_FRAMES = 64, 96, 6


def noise_frames(number: int = NUM_FRAMES, seed: int = 0) -> np.ndarray:
    """(number, HEIGHT, WIDTH, 3) uint8; no two pixels at a distance are equal by design, so a shifted crop differs."""
    return np.random.default_rng(seed).integers(0, 256, (number, HEIGHT, WIDTH, 3), dtype=np.uint8)


def write_folder(folder: Path, frames: np.ndarray, first: int = 1, pattern: str = "{:06d}.png") -> Path:
    """Write frames as PNG files, named by number from `first` on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, first):
        cv2.imwrite(str(folder / pattern.format(number)), frame)
    return folder


def write_video(path: Path, frames: np.ndarray, fps: float = 25.0, codec: str = "MJPG") -> Path:
    """Write frames as a video file."""
    height, width = frames.shape[1:3]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def walk_frames(number: int = 60, seed: int = 0) -> tuple[np.ndarray, list[list[tuple[int, int, int, int]]]]:
    """Two chequered rectangles cross a grey room, one after the other: (number, 96, 160, 3) uint8, and the boxes of each frame."""
    rng = np.random.default_rng(seed)
    people = [rng.integers(0, 256, (6, 3, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(2)]
    frames, boxes = np.full((number, 96, 160, 3), 128, np.uint8), []
    for n, frame in enumerate(frames):
        found = []
        for pixels, start, y in ((people[0], 2, 8), (people[1], number // 2, 40)):
            x = 4 + 4 * (n - start)
            if 0 < x < 160 - 24 and start <= n:
                frame[y : y + 48, x : x + 24] = pixels // 2 + 2 * n  # it becomes lighter, so no two crops are equal
                found.append((x, y, x + 24, y + 48))
        boxes.append(found)
    return frames, boxes


def write_boxes(path: Path, boxes: list[list[tuple[int, int, int, int]]], first: int = 0) -> Path:
    """Write boxes as CSV: frame, x1, y1, x2, y2."""
    lines = [f"{number},{','.join(map(str, box))}" for number, found in enumerate(boxes, first) for box in found]
    path.write_text("\n".join(["frame,x1,y1,x2,y2", *lines]) + "\n")
    return path


def write_mot(path: Path, boxes: list[list[tuple[int, int, int, int]]]) -> Path:
    """Write the boxes of `walk_frames` as ground truth of MOTChallenge: people 7 and 8, frames and pixels from 1; one box is ignored."""
    lines = [
        f"{number},{7 if y0 == 8 else 8},{x0 + 1},{y0 + 1},{x1 - x0},{y1 - y0},1,1,1"
        for number, found in enumerate(boxes, 1)
        for x0, y0, x1, y1 in found
    ]
    path.write_text("\n".join([*lines, "3,9,1,1,20,20,0,1,1"]) + "\n")
    return path
