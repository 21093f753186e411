"""Serve a gallery as a web page and a JSON API: `python tools/serve.py --gallery G --weights RUN/best.safetensors`."""

from __future__ import annotations

import argparse
import os
import sys

from vitreid import Embedder, Gallery
from vitreid.common.errors import UserError
from vitreid.gallery.web import Limits, create_app
from vitreid.tools.cli.parser import new_parser, run

LOOPBACK = {"localhost": "localhost", "127.0.0.1": "127.0.0.1", "::1": "[::1]"}  # address -> name in a URL


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(
        "Search a gallery in a web browser, or by its JSON API.",
        "vitreid serve --gallery galleries/crops --weights logs/market/best.safetensors",
    )
    parser.add_argument("--gallery", metavar="G", required=True, help="folder that tools/export.py made, or milvus:…")
    parser.add_argument("--weights", metavar="FILE", required=True, help="the weights that the gallery was made with")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; 127.0.0.1 is this machine alone, 0.0.0.0 is all"
    )
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    parser.add_argument(
        "--name",
        metavar="HOST",
        action="append",
        default=[],
        help="name by which it is called too, e.g. through a proxy",
    )
    parser.add_argument("--token", help="what visitors must know; also from the environment variable VITREID_TOKEN")
    parser.add_argument(
        "--max-mb", type=float, default=Limits.max_bytes / 1e6, help="largest request, in MB; default: %(default)g"
    )
    parser.add_argument(
        "--max-megapixels",
        type=float,
        default=Limits.max_pixels / 1e6,
        help="largest image; default: %(default)g million pixels",
    )
    parser.add_argument(
        "--rate", type=float, help="searches per second and visitor; default: 10, and no limit on this machine alone"
    )
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse, serve until Ctrl-C, return the exit status."""
    args = get_parser().parse_args(argv)
    return run(lambda: serve(args), args.traceback)


def serve(args: argparse.Namespace) -> None:
    """Do what the arguments say.

    Raises:
        ValueError: uvicorn is not installed, or an argument is not accepted.
    """
    try:
        import uvicorn

        app = make_app(args)
    except ModuleNotFoundError as error:
        raise UserError(f'serving a gallery needs {error.name}: pip install "vitreid[serve]"') from error
    name = LOOPBACK.get(args.host, args.host)
    print(f"http://{name}:{args.port}/ (API: http://{name}:{args.port}/docs); Ctrl-C ends it")
    if not is_local(args) and not (args.token or os.environ.get("VITREID_TOKEN")):
        print("anybody who reaches this server can look at the gallery; --token keeps it to those who know the token")
    uvicorn.run(app, host=args.host, port=args.port, log_level="warning", server_header=False)


def is_local(args: argparse.Namespace) -> bool:
    """Return whether only this machine can ask; who gives another --name lets a proxy pass others on."""
    return args.host in LOOPBACK and not args.name


def make_app(args: argparse.Namespace):  # type: ignore[no-untyped-def]  # FastAPI is an extra
    """Return the application that the arguments describe; loopback answers to its own names only."""
    own_names = LOOPBACK.values() if args.host in LOOPBACK else ()
    embedder = Embedder(args.weights, device=args.device)
    return create_app(
        Gallery.open(args.gallery),
        embedder,
        token=args.token or os.environ.get("VITREID_TOKEN"),
        max_bytes=round(args.max_mb * 1e6),
        max_pixels=round(args.max_megapixels * 1e6),
        rate=10.0 if args.rate is None and not is_local(args) else args.rate,
        hosts=(*own_names, *map(str.lower, args.name)),
    )


if __name__ == "__main__":
    sys.exit(main())
