"""The house rules, read from the source: arrows, names, sizes, config at the door, plain words, commands that parse."""

import ast
import doctest
import importlib
import re
import shlex
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from helpers import ROOT
from house import MODULES, ROOMS, SOURCES, TESTS, circles

from vitreid.configs import OPTIONS, load_config
from vitreid.datasets.data_builders import SHARES
from vitreid.datasets.loading.clips import SAMPLINGS
from vitreid.datasets.loading.preprocess import INTERPOLATIONS
from vitreid.loss import HEADS, METRICS
from vitreid.model.backbones.stems import STEMS
from vitreid.model.parts.frame_pool import FRAME_POOLS
from vitreid.solver import OPTIMIZERS, SCHEDULES
from vitreid.tools.cli.main import COMMANDS

GROUND_FLOOR = {"configs", "datasets", "evaluation", "loss", "model", "solver"}
CELLAR = {"common", "labels"}
ENGINE = {*CELLAR, *GROUND_FLOOR, "processor"}
MAY_IMPORT = {  # folder: rooms that its files may import; the longest matching folder counts
    "common": set(),
    "labels": {"common"},
    **dict.fromkeys(sorted(GROUND_FLOOR), CELLAR),
    "processor": {*CELLAR, *GROUND_FLOOR},
    "tracking": ENGINE,
    "gallery": {*CELLAR, "evaluation", "model"},
    "gallery/export": {*ENGINE, "tracking"},
    "report": ENGINE,
    "deploy": ENGINE,
    "tools": {*ENGINE, "tracking", "gallery", "report", "deploy"},
    "benchmarks": {*ENGINE, "tracking", "gallery", "report", "deploy", "tools"},
}
MOST_FILES, MOST_LINES, LONGEST_FUNCTION = 12, 400, 60

# Commands are named after what they do, and so is the module that does it.
COMMAND_FOLDERS = ("tools", "tools/people", "tools/video", "tools/keeping", "benchmarks", "benchmarks/galleries")
SAME_MODULE_NAME: dict[str, str] = {}  # file name: the reason why two rooms have it
SAME_CLASS_NAME: dict[str, str] = {}  # class: the reason why two rooms have it
DEFERRED = {  # importing file -> imported module: why a function makes the import
    ("gallery/maintenance/compress.py", "evaluation"): "torch takes 1.6 s and 780 MB, which a search does without",
    ("gallery/search/engine.py", "evaluation"): "torch takes 1.6 s and 780 MB, which only re-ranking needs",
    ("gallery/web/__init__.py", "gallery.web.app"): "FastAPI is an optional extra",
    ("tools/serve.py", "gallery.web"): "uvicorn is an optional extra",
}


def test_arrows_go_down_only():
    for source in SOURCES:
        folder = max((name for name in MAY_IMPORT if f"{source.name}/".startswith(f"{name}/")), key=len)
        rooms = {one.module.split(".")[0] or name for one in source.imports for name in one.names}
        wrong = rooms & set(ROOMS) - MAY_IMPORT[folder] - {source.room}
        assert not wrong, f"{source.name} imports {sorted(wrong)}"


def test_only_export_brings_the_engine_into_the_gallery():
    for source in SOURCES:
        if source.room == "gallery" and not source.name.startswith("gallery/export/"):
            assert not [one for one in source.imports if one.module.startswith("gallery.export")], source.name


def test_the_gallery_imports_without_torch():
    code = "import sys, vitreid.gallery; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_common_imports_no_torch():
    for source in SOURCES:
        if source.room == "common":
            assert not re.search(r"^\s*(import|from) torch", source.text, re.MULTILINE), source.name


def test_no_files_import_each_other_in_a_circle():
    assert circles() == []


def test_imports_stand_at_the_top():
    """Within the house only; optional extras and costly imports are listed in DEFERRED."""
    found = {
        (source.name, one.module)
        for source in SOURCES
        if source.room != "benchmarks"
        for one in source.imports
        if one.in_function
    }
    assert found == set(DEFERRED)


def test_a_module_name_belongs_to_one_room():
    rooms = defaultdict(set)
    for source in SOURCES:
        if source.path.name != "__init__.py" and "/".join(source.name.split("/")[:-1]) not in COMMAND_FOLDERS:
            rooms[source.path.name].add(source.room)
    shared = {name: sorted(found) for name, found in rooms.items() if len(found) > 1 and name not in SAME_MODULE_NAME}
    assert not shared


def test_a_class_name_belongs_to_one_room():
    rooms = defaultdict(set)
    for source in SOURCES:
        for node in source.tree.body:
            if isinstance(node, ast.ClassDef):
                rooms[node.name].add(source.room)
    shared = {name: sorted(found) for name, found in rooms.items() if len(found) > 1 and name not in SAME_CLASS_NAME}
    assert not shared


def test_no_module_is_hidden_by_a_name_of_its_package():
    for source in SOURCES:
        if source.path.name == "__init__.py":
            own = {name for one in source.imports for name in one.names}
            own |= {node.name for node in source.tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
            hidden = {name for name in own if f"{source.module}.{name}" in MODULES}
            assert not hidden, f"{source.name}: {sorted(hidden)} hides a module of that name"


def test_folders_files_and_functions_are_small():
    files = Counter(source.path.parent for source in SOURCES)
    assert {str(folder) for folder, count in files.items() if count > MOST_FILES} == set()
    texts = [*(source.path for source in SOURCES), *ROOT.glob("*/**/*.js")]
    long = {
        path.name for path in texts if ".venv" not in path.parts and len(path.read_text().splitlines()) > MOST_LINES
    }
    assert long == set()
    for source in SOURCES:
        for node in ast.walk(source.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno - node.lineno < LONGEST_FUNCTION, f"{source.name}: {node.name}"


# --- config stops at the door -------------------------------------------------------------------------------------


def node_reads(source) -> list[tuple[str, str, str]]:
    """(outermost function, or class.method, or "" at module level; section; option) of every read of a config node."""
    found = []
    for outer in source.tree.body:
        functions = [outer]
        if isinstance(outer, ast.ClassDef):
            functions = [node for node in outer.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
        for function in functions:
            name = getattr(function, "name", "")
            aliases = {  # test = cfg.TEST
                target.id: node.value.attr
                for node in ast.walk(function)
                if isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Attribute)
                and _is_config(node.value.value)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            for node in ast.walk(function):
                if not isinstance(node, ast.Attribute):
                    continue
                if isinstance(node.value, ast.Attribute) and _is_config(node.value.value):
                    found.append((name, node.value.attr, node.attr))
                elif isinstance(node.value, ast.Name) and node.value.id in aliases:
                    found.append((name, aliases[node.value.id], node.attr))
                elif _is_config(node.value) and node.attr.isupper():
                    found.append((name, "", node.attr))
    return found


def _is_config(node: ast.expr) -> bool:
    """Whether the expression is `cfg`, `self.cfg` or `self._cfg`."""
    if isinstance(node, ast.Attribute):
        return node.attr in ("cfg", "_cfg")
    return isinstance(node, ast.Name) and node.id == "cfg"


def test_config_stops_at_the_door():
    """Outside `configs/` only `build_*` functions and the lambdas of registries (module level) read the node."""
    for source in SOURCES:
        if source.room in ("configs", "benchmarks"):
            continue
        readers = {name for name, _, _ in node_reads(source) if name and not name.lstrip("_").startswith("build_")}
        assert not readers, f"{source.name}: {sorted(readers)} read the config; take plain values"


READ = {
    f"{section}.{option}".lstrip(".")
    for source in SOURCES
    if source.room not in ("configs", "benchmarks")
    for _, section, option in node_reads(source)
}


@pytest.mark.parametrize("key", OPTIONS)
def test_every_option_has_a_reader(key):
    assert key in READ, f"nobody reads {key}"


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
        "DATALOADER.CLIP_SAMPLING": set(SAMPLINGS),
        "MODEL.CLIP_POOL": set(FRAME_POOLS),
    }
    assert {key: set(OPTIONS[key].choices) for key in dicts} == dicts


# --- words ----------------------------------------------------------------------------------------------------------

FORBIDDEN = {  # what docs/glossary.md says instead
    r"\btell(s|ing)?\b|\btold\b": "report, list, broadcast",
    r"\bbeside\b": "next to, in addition to",
    r"\bof (its|their|his|her|one's) own\b": "own",
    r"\bwho(m)?ever\b|\bwherever\b": "anyone, everywhere",
    r"\bgo(es|ing)? on\b|\bwent on\b": "continue, resume",
    r"\balike\b": "equal, the same",
    r"\bbegun\b": "started",
    r"\bin vain\b": "without a result",
    r"\bnobody's\b": "unowned",
    r"\bthe like\b": "etc.",
    r"\bby itself\b": "alone",
    r"\bmakes? up\b": "draw",
    r"\blooks? into\b": "read, inspect",
    r"\bspared\b": "avoided",
    r"\bhand(s|ed)? on\b": "forward",
}


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_docstrings_and_comments_use_plain_words(pattern):
    found = [
        f"{source.name}:{line}"
        for source in [*SOURCES, *TESTS]
        for line, text in source.prose
        if re.search(pattern, text, re.IGNORECASE)
    ]
    assert not found, f"write {FORBIDDEN[pattern]!r} instead: {found}"


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_pages_use_plain_words(pattern):
    found = [
        f"{page.name}:{number}"
        for page in PAGES
        if page.name != "glossary.md"
        for number, line in enumerate(page.read_text().splitlines(), 1)
        if re.search(pattern, line, re.IGNORECASE)
    ]
    assert not found, f"write {FORBIDDEN[pattern]!r} instead: {found}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_docstring_examples_run(source):
    assert doctest.testmod(importlib.import_module(f"vitreid.{source.module}")).failed == 0


def test_library_code_does_not_print():
    for source in SOURCES:
        if source.room not in COMMAND_FOLDERS:
            calls = [node for node in ast.walk(source.tree) if isinstance(node, ast.Call)]
            assert not any(getattr(call.func, "id", "") == "print" for call in calls), source.name


# --- commands -------------------------------------------------------------------------------------------------------

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STARTS = re.compile(r"((\S+/)?python|torchrun .*?) ?\b(tools|benchmarks)/|vitreid [a-z]|python -m vitreid ")


def shown_commands(*pages: Path) -> list[str]:
    """Lines of the pages' bash blocks that start a command or a benchmark, in one or several processes."""
    blocks = [b for page in pages for b in re.findall(r"```(?:bash|sh|console)\n(.*?)```", page.read_text(), re.DOTALL)]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if STARTS.match(line)]


def parse(command: str):
    """Return the parsed arguments of a shown command."""
    words = shlex.split(command.split("#")[0])
    if "vitreid" in words:
        name, *arguments = words[words.index("vitreid") + 1 :]
        tool = importlib.import_module(f"vitreid.tools.{COMMANDS[name].module}")
    else:
        place = next(place for place, word in enumerate(words) if word.endswith(".py"))
        tool = importlib.import_module("vitreid." + words[place].removesuffix(".py").replace("/", "."))
        arguments = words[place + 1 :]
    parser = tool.get_parser()
    if parser._subparsers:  # argparse cannot intermix the arguments of subcommands
        return parser.parse_args(arguments)
    return parser.parse_intermixed_args(arguments)


def test_the_readme_shows_commands():
    assert len(shown_commands(ROOT / "README.md")) >= 3


@pytest.mark.parametrize("command", dict.fromkeys(shown_commands(*PAGES)))
def test_shown_commands_parse(command):
    """The tool exists, takes these arguments, and the options and recipe are valid."""
    args = parse(command)
    if "opts" in args:  # a benchmark has no recipe
        assert load_config(args.config_file, args.opts).OUTPUT_DIR


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_parser_and_an_example_that_parses(name):
    """The example at the end of `--help` is a command that parses."""
    tool = importlib.import_module(f"vitreid.tools.{COMMANDS[name].module}")
    examples = [line.strip() for line in tool.get_parser().format_help().partition("example")[2].splitlines()[1:]]
    assert examples
    for example in examples:
        assert example.startswith(f"vitreid {name}")
        parse(example)


def test_only_files_that_ship_are_packages():
    """setup.py lists every room, and every folder of recipes."""
    listed = (ROOT / "setup.py").read_text()
    recipes = {path.parent.name for path in ROOT.glob("configs/*/*.yml")}
    for room in {*ROOMS, *recipes} - {"benchmarks"}:
        assert f'"{room}"' in listed
