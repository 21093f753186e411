"""Draw a film of several cameras with ground truth, and find the paths of its people in a gallery of its tracks.

The people walk, cross, hide each other, leave and come back in another camera. With --gallery the first track of each person is
searched for in the gallery; a path is complete if every visit is found and nobody else.

Example:
    vitreid film --output data/film
    vitreid film --output data/film --people 12 --cameras 2 --seconds 60 --seed 1
    vitreid film --output data/film --gallery logs/synthetic_vit_tiny/film
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vitreid.datasets.synthetic.film import CODECS, FilmPlan, make_film
from vitreid.gallery import Gallery
from vitreid.tools.cli.parser import command, new_parser
from vitreid.tools.video.film_paths import find_paths, path_text


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add(
        "--output",
        metavar="DIR",
        type=Path,
        required=True,
        help="folder of the film; drawn there unless it is complete",
    )
    add("--people", metavar="N", type=int, default=FilmPlan.num_people, help="default: %(default)s")
    add("--cameras", metavar="N", type=int, default=FilmPlan.num_cameras, help="default: %(default)s")
    add("--seconds", metavar="S", type=float, default=FilmPlan.seconds, help="length; default: %(default)g")
    add("--fps", metavar="F", type=int, default=FilmPlan.fps, help="frames per second; default: %(default)s")
    add("--suffix", choices=sorted(CODECS), default=FilmPlan.suffix, help="of the videos; default: %(default)s")
    add(
        "--seed",
        metavar="N",
        type=int,
        default=FilmPlan.seed,
        help="of people, cameras and paths; default: %(default)s",
    )
    add("--gallery", metavar="GALLERY", help="of the film's tracks: print the path of each person")
    return parser


def film(args: argparse.Namespace) -> str:
    """Draw the film; return where it is, or the paths."""
    plan = FilmPlan(args.people, args.cameras, args.seconds, args.fps, suffix=args.suffix, seed=args.seed)
    make_film(args.output, plan)
    if args.gallery is None:
        videos = ", ".join(f"{camera}{plan.suffix}" for camera in plan.cameras)
        return (
            f"{args.output}: {videos} with boxes.csv, cameras.csv, paths.csv and, per camera, gt/gt.txt and det/det.txt"
        )
    paths = find_paths(Gallery.open(args.gallery), args.output)
    complete = sum(path.is_complete for path in paths)
    return "\n".join([*map(path_text, paths), f"complete paths: {complete} of {len(paths)}"])


main = command(get_parser, film)

if __name__ == "__main__":
    sys.exit(main())
