"""Follow people with BoxMOT: its re-ID model is an ONNX file of vitreid.

    vitreid export-model --weights RUN/best.safetensors --for boxmot --output reid.onnx
    pip install boxmot                                   # tested with version 25.0.0
    python examples/track_with_boxmot.py --model reid.onnx

Two drawn people walk towards each other, pass and part. The boxes are known; in practice a detector provides them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import numpy as np

from vitreid.datasets.synthetic.camera import make_cameras, photograph
from vitreid.datasets.synthetic.identity import make_people

FRAME, PERSON = (240, 480), (160, 80)  # (height, width) in pixels


def get_parser() -> argparse.ArgumentParser:
    """Return the example's arguments."""
    parser = argparse.ArgumentParser(description="Follow two drawn people with BoxMOT and our re-ID model.")
    parser.add_argument(
        "--model", metavar="FILE", required=True, help="ONNX file from `vitreid export-model --for boxmot`"
    )
    parser.add_argument("--frames", metavar="N", type=int, default=40, help="number of frames")
    return parser


def film(num_frames: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield frames (H, W, 3) uint8 BGR and their boxes (2, 6): left, top, right, bottom, confidence, class."""
    people, camera = make_people(2, seed), make_cameras(1, seed)[0]
    height, width = PERSON
    for number in range(num_frames):
        frame = np.full((*FRAME, 3), 128, np.uint8)
        way = (FRAME[1] - width) * number / max(num_frames - 1, 1)
        boxes = []
        for person, left, top in ((people[0], way, 10), (people[1], FRAME[1] - width - way, 70)):
            x = round(left)
            rng = np.random.default_rng([seed, 4, top])  # the same picture of a person in every frame
            frame[top : top + height, x : x + width] = photograph(camera, person, [], PERSON, rng)[..., ::-1]
            boxes.append([x, top, x + width, top + height, 0.9, 0])
        yield frame, np.array(boxes, np.float32)


def follow(model: str, num_frames: int) -> list[list[int]]:
    """Return the track number of each person in each frame, in the order of the boxes."""
    from boxmot import BotSort

    tracker = BotSort(reid_weights=model, device="cpu", half=False, use_cmc=False)
    numbers = []
    for frame, boxes in film(num_frames):
        tracks = tracker.update(boxes, frame)  # (M, 8): box, track number, confidence, class, row of the detection
        numbers.append([int(track[4]) for track in sorted(tracks, key=lambda track: track[7])])
    return numbers


def main(argv: list[str] | None = None) -> int:
    """Follow, print, return the exit status."""
    args = get_parser().parse_args(argv)
    numbers = follow(args.model, args.frames)
    for frame, found in enumerate(numbers):
        print(f"frame {frame:3}: tracks {found}")
    print(f"{len({number for found in numbers for number in found})} tracks for 2 people")
    return 0


if __name__ == "__main__":
    sys.exit(main())
