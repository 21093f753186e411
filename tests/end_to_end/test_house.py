"""The house rules, read from the source: direction of imports, a reader for every option, README commands that parse."""

import ast
import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest
from vitreid.configs import OPTIONS, load_config
from vitreid.datasets.build_data import SHARES
from vitreid.datasets.loading.preprocess import INTERPOLATIONS
from vitreid.loss import HEADS, METRICS
from vitreid.model.backbones.stems import STEMS
from vitreid.solver import OPTIMIZERS, SCHEDULES

ROOT = Path(__file__).resolve().parents[2]
GROUND_FLOOR = {"configs", "datasets", "evaluation", "loss", "model", "solver"}
MAY_IMPORT = {
    **{room: set() for room in sorted(GROUND_FLOOR)},
    "gallery": {"evaluation", "model"},
    "report": {"evaluation"},
    "processor": {*GROUND_FLOOR, "gallery", "report"},
    "benchmarks": {*GROUND_FLOOR, "gallery", "processor", "tools"},
}
SOURCES = {room: sorted((ROOT / room).rglob("*.py")) for room in MAY_IMPORT}


def imported_rooms(path: Path) -> set[str]:
    """Rooms of ours that a file imports, relatively (`from ..loss import x`) or by name."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            depth = len(path.relative_to(ROOT).parts)
            if node.level == depth and node.module:
                rooms.add(node.module.split(".")[0])
            elif node.level == 0 and (node.module or "").startswith("vitreid."):
                rooms.add(node.module.split(".")[1])
    return rooms


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_arrows_go_down_only(room):
    for path in SOURCES[room]:
        wrong = imported_rooms(path) - MAY_IMPORT[room] - {room}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("key", OPTIONS)
def test_every_option_has_a_reader(key):
    name = key.rsplit(".")[-1]
    readers = [
        path
        for room in (*GROUND_FLOOR, "processor")
        for path in SOURCES[room]
        if path.name not in ("defaults.py", "checks.py", "legacy.py")
    ]
    assert any(re.search(rf"\b\w+\.{name}\b", path.read_text()) for path in readers), f"nobody reads {key}"


def test_the_choices_of_an_option_are_the_rooms_dicts():
    """Whatever is added to a dict can be chosen, and the other way round."""
    dicts = {
        "LOSS.ID": {*HEADS, "none"},
        "LOSS.METRIC": {*METRICS, "none"},
        "SOLVER.OPTIMIZER_NAME": set(OPTIMIZERS),
        "SOLVER.SCHEDULE": set(SCHEDULES),
        "MODEL.STEM": set(STEMS),
        "INPUT.INTERPOLATION": set(INTERPOLATIONS),
        "DATASETS.BALANCE": set(SHARES),
    }
    assert {key: set(OPTIONS[key].choices) for key in dicts} == dicts


@pytest.mark.parametrize(
    "path", [p for paths in SOURCES.values() for p in paths], ids=lambda p: str(p.relative_to(ROOT))
)
def test_docstring_examples_run(path):
    name = ".".join(("vitreid", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_library_code_does_not_print():
    for room in MAY_IMPORT.keys() - {"benchmarks"}:  # like the tools, a benchmark prints what it found
        for path in SOURCES[room]:
            calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
            assert not any(getattr(call.func, "id", "") == "print" for call in calls), path


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def shown_commands(*pages: Path) -> list[str]:
    """Lines of the pages' bash blocks that start a tool or a benchmark, alone or in several processes."""
    blocks = [b for page in pages for b in re.findall(r"```(?:bash|sh|console)\n(.*?)```", page.read_text(), re.DOTALL)]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if re.match(r"((\S+/)?python|torchrun .*?) ?\b(tools|benchmarks)/", line)]


def test_the_readme_shows_commands():
    assert len(shown_commands(ROOT / "README.md")) >= 3


@pytest.mark.parametrize("command", dict.fromkeys(shown_commands(*PAGES)))
def test_shown_commands_parse(command):
    """The tool exists, takes these arguments, and the options and recipe are valid."""
    words = shlex.split(command.split("#")[0])
    words = words[next(place for place, word in enumerate(words) if word.endswith(".py")) - 1 :]
    tool = importlib.import_module(f"vitreid.{Path(words[1]).parent.name}.{Path(words[1]).stem}")
    args = tool.get_parser().parse_intermixed_args(words[2:])
    if "opts" in args:  # a benchmark has no recipe
        assert load_config(ROOT / args.config_file if args.config_file else None, args.opts).OUTPUT_DIR


def test_only_files_that_ship_are_packages():
    """setup.py lists every room that has code, and every folder of recipes."""
    listed = (ROOT / "setup.py").read_text()
    recipes = {path.parent.name for path in ROOT.glob("configs/*/*.yml")}
    for room in (*MAY_IMPORT, "tools", *recipes):
        assert f'"{room}"' in listed
