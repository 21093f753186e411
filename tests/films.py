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
