"""Search a gallery in a web browser, or by its JSON API.

Example:
    vitreid serve --gallery galleries/crops --weights logs/market/best.safetensors
"""

from __future__ import annotations

import argparse
import os
import sys

from vitreid import Embedder, Gallery
from vitreid.common.errors import UserError
from vitreid.gallery.web import Limits, create_app, missing_package
from vitreid.tools.cli.embedder_flags import add_embedder_flags, embedder_options
from vitreid.tools.cli.parser import command, new_parser

LOOPBACK = {"localhost": "localhost", "127.0.0.1": "127.0.0.1", "::1": "[::1]"}  # address -> name in a URL


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--gallery", metavar="G", required=True, help="folder that vitreid export made, or milvus:…")
    add("--weights", metavar="FILE", required=True, help="weights of the model that made the gallery")
    add("--host", default="127.0.0.1", help="address to listen on: 127.0.0.1 this machine only, 0.0.0.0 all networks")
    add("--port", type=int, default=8000, help="default: 8000")
    add(
        "--name",
        metavar="HOST",
        action="append",
        default=[],
        help="additional host name of the server, e.g. behind a proxy",
    )
    add("--token", help="token that visitors must enter; default: the environment variable VITREID_TOKEN")
    add(
        "--max-mb",
        type=float,
        default=Limits.max_bytes / 1e6,
        help="size limit of a request in MB; default: %(default)g",
    )
    add(
        "--max-megapixels",
        type=float,
        default=Limits.max_pixels / 1e6,
        help="size limit of an image in million pixels; default: %(default)g",
    )
    add(
        "--rate",
        type=float,
        help="searches per second and visitor; default: 10, no limit if only this machine can connect",
    )
    add("--device", default="auto", help="auto, cuda, mps or cpu")
    add_embedder_flags(parser)
    return parser


def serve(args: argparse.Namespace) -> None:
    """Serve the gallery until Ctrl-C.

    Raises:
        MissingPackageError: uvicorn or FastAPI is not installed.
        UserError: an argument is not accepted.
    """
    if not 0 <= args.port <= 65_535:
        raise UserError(f"--port: a number from 0 to 65535, got {args.port}")
    try:
        import uvicorn  # an extra
    except ModuleNotFoundError as error:
        raise missing_package(error) from error
    app = make_app(args)
    name = LOOPBACK.get(args.host, args.host)
    print(f"http://{name}:{args.port}/ (API: http://{name}:{args.port}/docs); Ctrl-C stops it")
    if not is_local(args) and not (args.token or os.environ.get("VITREID_TOKEN")):
        print("anybody who reaches this server can see the gallery; protect it with --token")
    uvicorn.run(app, host=args.host, port=args.port, log_level="warning", server_header=False)


def is_local(args: argparse.Namespace) -> bool:
    """Return whether only this machine can connect; with --name, a proxy may forward other machines' requests."""
    return args.host in LOOPBACK and not args.name


def make_app(args: argparse.Namespace):  # type: ignore[no-untyped-def]  # FastAPI is an extra
    """Return the application; a loopback address answers to its own names and --name only."""
    own_names = LOOPBACK.values() if args.host in LOOPBACK else ()
    embedder = Embedder(args.weights, device=args.device, options=embedder_options(args))
    return create_app(
        Gallery.open(args.gallery),
        embedder,
        token=args.token or os.environ.get("VITREID_TOKEN"),
        max_bytes=round(args.max_mb * 1e6),
        max_pixels=round(args.max_megapixels * 1e6),
        rate=10.0 if args.rate is None and not is_local(args) else args.rate,
        hosts=(*own_names, *map(str.lower, args.name)),
    )


main = command(get_parser, serve)

if __name__ == "__main__":
    sys.exit(main())
