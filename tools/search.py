"""Find the crops of a gallery that are most like an image.

Example:
    vitreid search --gallery galleries/crops --weights logs/market/best.safetensors --query person.jpg
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from vitreid.common.errors import UserError
from vitreid.common.files import check_output_file
from vitreid.common.pictures import check_picture_name
from vitreid.common.text import share_text, table
from vitreid.gallery import Gallery
from vitreid.gallery.search.contact_sheets import contact_sheet
from vitreid.gallery.search.faiss_index import INDEXES
from vitreid.gallery.search.search_result import SearchResult
from vitreid.gallery.search.sightings import time_text
from vitreid.processor.embedding.embedder import Embedder
from vitreid.tools.cli.embedder_flags import add_device_flags, add_embedder_flags, embedder_options
from vitreid.tools.cli.gallery_arguments import check_queries_exist
from vitreid.tools.cli.parser import command, new_parser

COLUMNS = ("camera", "pid", "time", "frame", "tracklet", "path")  # of a record, as shown
CUT = "found, but re-ranked below these; to see who is within the threshold leave out --rerank, or take a larger --topk"
SAID = {"match": "found", "unknown": "unknown: nothing within the threshold", None: "the gallery has no threshold"}


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--gallery", metavar="GALLERY", required=True, help="folder, milvus:FILE.db or milvus:http://HOST:PORT")
    add("--query", metavar="IMAGE", nargs="+", required=True, help="crops of people to look for")
    add("--weights", metavar="FILE", required=True, help="the weights that the gallery was made with")
    add("--topk", metavar="K", type=int, default=20, help="results per query")
    add(
        "--where",
        metavar="CONDITION",
        action="append",
        default=[],
        help="search only records with camera=c1,c2 or camera!=c1 or 'time>=2026-01-31T08:00' or time_of_day=22:00-06:00 or "
        "'duration>=2', any column; repeatable, all must hold",
    )
    add(
        "--camera",
        metavar="NAME",
        help="the queries' camera, for a model that knows cameras, or a gallery normalised by camera",
    )
    add("--other-cameras", action="store_true", help="leave out records of the queries' own --camera")
    add("--rerank", action="store_true", help="order the nearest by k-reciprocal re-ranking")
    add("--index", choices=("exact", *INDEXES), default=None, help="default: exact; the others need FAISS")
    add("--json", action="store_true", help="print JSON rather than tables")
    add("--sheet", metavar="FILE.png", help="write a picture of the queries and their results")
    add_device_flags(parser)
    add_embedder_flags(parser)
    return parser


def search(args: argparse.Namespace) -> None:
    """Print the closest records of each query; the gallery is opened before the model, which takes seconds to load."""
    if args.other_cameras and args.camera is None:
        raise UserError("--other-cameras: which camera took the queries? Give --camera NAME")
    if args.sheet:
        check_picture_name("--sheet", args.sheet)
        check_output_file("--sheet", args.sheet)
    check_queries_exist(args.query)
    gallery = Gallery.open(args.gallery)
    embedder = Embedder(args.weights, device=args.device, precision=args.precision, options=embedder_options(args))
    gallery.info.check_embedder(gallery.path, embedder)
    if not len(gallery):
        raise UserError(f"--gallery: {args.gallery} holds no rows; add some: vitreid export, or gallery.add in Python")
    vectors, own = embedder(args.query, args.camera), args.camera if args.other_cameras else None
    results = gallery.search(
        *(vectors, args.topk, args.where or None),
        rerank=args.rerank,
        exclude_same_camera=own,
        index=args.index,
        cameras=args.camera,
    )
    print(as_json(args.query, results) if args.json else as_text(args.query, results))
    if args.sheet:
        contact_sheet(args.sheet, list(zip(args.query, results, strict=True)), gallery.image_path)


def as_json(queries: Sequence[str], results: Sequence[SearchResult]) -> str:
    """Return a JSON list with an object per query."""
    found = [{"query": query, **result.to_dict()} for query, result in zip(queries, results, strict=True)]
    return json.dumps(found, indent=1, allow_nan=False)


def as_text(queries: Sequence[str], results: Sequence[SearchResult]) -> str:
    """Return a table per query; columns without a value are left out."""
    return "\n\n".join(_table(query, result) for query, result in zip(queries, results, strict=True))


def _table(query: str, result: SearchResult) -> str:
    limit = "" if result.threshold is None else f" (threshold {result.threshold:.4f})"
    shown = [name for name in COLUMNS if any(row.get(name) not in (None, "") for row in result.rows)]
    optional = ["score"] * (result.scores is not None) + ["match"] * bool(limit)
    optional += ["probability"] * (result.probabilities is not None)
    lines = [["", "id", "distance", *optional, *shown]]
    for rank, row in enumerate(result.rows):
        figures = [f"{result.distances[rank]:.4f}"]
        figures += [f"{result.scores[rank]:.4f}"] if result.scores is not None else []
        figures += ["yes" if result.is_match[rank] else "no"] if result.is_match is not None else []
        figures += [share_text(result.probabilities[rank])] if result.probabilities is not None else []
        lines.append([str(rank + 1), str(row["id"]), *figures, *(_text(name, row) for name in shown)])
    said = (CUT if result.is_cut else SAID[result.verdict]) if len(result) else "no record passes the conditions"
    return f"{query}: {said}{limit}" + ("\n" + table(lines, left=None) if len(result) else "")


def _text(name: str, row: Mapping[str, Any]) -> str:
    if name == "time":
        return time_text(row)
    return "-" if row.get(name) is None else str(row[name])


main = command(get_parser, search)

if __name__ == "__main__":
    sys.exit(main())
