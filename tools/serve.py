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
from vitreid.gallery.storage.embeddings_file import KEPT
from vitreid.gallery.web import Limits, create_app, missing_package
from vitreid.tools.cli.embedder_flags import add_embedder_flags, embedder_options
from vitreid.tools.cli.parser import command, new_parser

TOKEN = "VITREID_TOKEN"  # environment variable
LOCAL_RATE, RATE = None, 10.0  # searches per second and visitor


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
        help="additional host name of the server, e.g. behind a proxy; its addresses are accepted without it",
    )
    add(
        "--proxy",
        metavar="ADDRESS",
        action="append",
        default=[],
        help="address of a proxy whose X-Forwarded-For names the visitor; without it the proxy counts as one visitor",
    )
    add("--token", help=f"token that visitors must enter; default: the environment variable {TOKEN}")
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
    add("--decide", action="store_true", help="visitors may decide who is who, on the page People; default: only look")
    add(
        "--enrol",
        action="store_true",
        help="as --decide, and visitors may add people from images, which are kept in the gallery's folder",
    )
    add("--audit", metavar="FILE", help="append who searched for what, and when, to this file; default: no audit")
    add("--device", default="auto", help="auto, cuda, mps or cpu")
    add_embedder_flags(parser)
    return parser


def serve(args: argparse.Namespace) -> None:
    """Serve the gallery until Ctrl-C.

    Raises:
        MissingPackageError: uvicorn or FastAPI is not installed.
        UserError: an argument is not accepted, or the port is in use.
    """
    if not 0 <= args.port <= 65_535:
        raise UserError(f"--port: a number from 0 to 65535, got {args.port}")
    try:
        from vitreid.gallery.web import server  # uvicorn is an extra
    except ModuleNotFoundError as error:
        raise missing_package(error) from error
    token = token_of(args)
    is_local = server.is_loopback(args.host) and not args.name  # with --name, a proxy may forward others' requests
    with server.listening(args.host, args.port) as sockets:  # before the model is loaded, which takes seconds
        app = make_app(args, token, is_local)

        def announce() -> None:
            address = server.address_of(args.host, sockets[0].getsockname()[1])
            print(f"{address} (API: {address}docs); Ctrl-C stops it", flush=True)
            if not is_local and not token:
                print("anybody who reaches this server can see the gallery; protect it with --token", flush=True)

        server.run(app, sockets, args.proxy, announce)


def token_of(args: argparse.Namespace) -> str | None:
    """Return the token of --token or the environment; None = no token.

    Raises:
        UserError: it is empty, as a variable is that was never set: the gallery would be open.
    """
    name, token = ("--token", args.token) if args.token is not None else (TOKEN, os.environ.get(TOKEN))
    if token is not None and not token.strip():
        raise UserError(f"{name}: the token is empty; give one, or leave {name} out to serve without a token")
    return token


def make_app(args: argparse.Namespace, token: str | None, is_local: bool):  # type: ignore[no-untyped-def]  # FastAPI is an extra
    """Return the application; it answers to addresses, localhost, the host listened on, and --name."""
    embedder = Embedder(args.weights, device=args.device, options=embedder_options(args))
    return create_app(
        Gallery.open(args.gallery, rows=KEPT),  # another program that cuts embeddings.npy short does not end the server
        embedder,
        token=token,
        max_bytes=round(args.max_mb * 1e6),
        max_pixels=round(args.max_megapixels * 1e6),
        rate=(LOCAL_RATE if is_local else RATE) if args.rate is None else args.rate,
        hosts=("localhost", *map(str.lower, [args.host, *args.name])),
        audit=args.audit,
        decide=args.decide,
        enrol=args.enrol,
    )


main = command(get_parser, serve)

if __name__ == "__main__":
    sys.exit(main())
