"""Dockerfile and Makefile name what exists; nothing is built here."""

import json
import re
import sys

import pytest
from helpers import ROOT

from vitreid.tools import serve
from vitreid.tools.cli.main import COMMANDS

DOCKERFILE = (ROOT / "Dockerfile").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
STAGES = dict(re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL))


def words_of(stage, instruction):
    """Return the JSON list of an instruction of a stage."""
    return json.loads(re.search(rf"^{instruction} (\[.*\])$", STAGES[stage], re.MULTILINE)[1])


def test_the_page_is_what_an_image_starts():
    """The last stage is built unless a target is named; its command parses, and other computers reach it."""
    assert list(STAGES)[-1] == "page" and words_of("page", "ENTRYPOINT") == ["vitreid"]
    name, *arguments = words_of("page", "CMD")
    assert name in COMMANDS
    args = serve.get_parser().parse_args(arguments)
    assert args.host == "0.0.0.0" and f"EXPOSE {args.port}" in STAGES["page"]


def test_the_page_runs_without_the_rights_of_root():
    for stage in ("page", "tests"):
        user = STAGES[stage].index("USER vitreid")
        assert user < STAGES[stage].index("CMD [")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_the_extras_of_the_image_exist():
    import tomllib

    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (extras,) = re.findall(r'pip install "\.\[([\w,]+)\]"', DOCKERFILE)
    assert set(extras.split(",")) <= known.keys()


def test_the_targets_of_make_exist():
    asked = {*re.findall(r"^RUN make (\S+)", DOCKERFILE, re.MULTILINE), *words_of("tests", "CMD")[1:]}
    assert asked and all(re.search(rf"^{re.escape(name)}:", MAKEFILE, re.MULTILINE) for name in asked)


def test_the_health_check_asks_a_route_of_the_server():
    source = (ROOT / "gallery" / "web" / "routes.py").read_text() + (ROOT / "gallery" / "web" / "app.py").read_text()
    (path,) = re.findall(r"127\.0\.0\.1:8000(/\w+)", DOCKERFILE)
    assert f'"{path}"' in source


def test_the_pages_build_stages_that_exist():
    shown = DOCKERFILE + (ROOT / "docs" / "install.md").read_text()
    assert set(re.findall(r"docker build --target (\w+)", shown)) <= STAGES.keys()


def test_the_demo_searches_for_three_people(people):
    """One query of each of three people, from one camera, and not one person from three cameras."""
    (pattern,) = re.findall(r"\$\$\(ls data/synthetic/query/(\S+) \| head -3\)", MAKEFILE)
    names = [path.name for path in sorted((people / "synthetic" / "query").glob(pattern))][:3]
    assert len({name.split("_")[0] for name in names}) == 3
