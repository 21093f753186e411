"""What README and docs show is true: Python blocks run, pages build, options are complete; commands: test_commands.py."""

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from helpers import ROOT

import vitreid
from vitreid.configs import OPTIONS
from vitreid.deploy import Order, ship
from vitreid.gallery.export.export_job import export
from vitreid.processor import Embedder

pytestmark = pytest.mark.slow

MADE_BY_USERS = {"market1501/", "MSMT17/", "VeRi/"}  # folders of data sets
PAGES = {page.name: page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
# A block is preceded by <!-- not run: reason --> if a test cannot run it; it is parsed all the same.
PYTHON = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n+)?^ *```python\n(?P<code>.*?)^ *```", re.DOTALL | re.MULTILINE
)


def blocks(page):
    """Return (code, reason not to run it) of the page's Python blocks."""
    return [(match["code"], match["reason"]) for match in PYTHON.finditer(PAGES[page].read_text())]


@pytest.fixture
def desk(checkpoint, people, tmp_path, monkeypatch):
    """The current folder, with what the pages mention: weights, galleries, pictures, a user's data set."""
    monkeypatch.chdir(tmp_path)
    for run in ("logs/synthetic_vit_tiny", "logs/market_vit_base"):
        Path(run).mkdir(parents=True)
        shutil.copy(checkpoint, f"{run}/best.safetensors")
    Path("galleries").mkdir()
    for name in ("crops", "other"):
        export(checkpoint, "market1501:gallery", f"galleries/{name}", root=str(people / "synthetic"), device="cpu")
    for place in range(12):
        split = ("train", "train", "query", "gallery")[place % 4]
        path = Path(f"data/mine/{split}/person{place // 2}-camera{place % 2}-{place}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(place).integers(0, 256, (64, 32, 3), np.uint8))
    return tmp_path


def prepare(code, desk, pictures):
    """Return the code with folders of the test in place of those shown, and draw the pictures it names."""
    code = code.replace('"/data/', f'"{desk}/data/').replace('"galleries/pca", 256', '"galleries/pca", 8')
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith((".jpg", ".png")):
            path = desk / node.value
            if "*" not in path.name and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(next(pictures), path)
    return code


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page) and page != "deploy.md"])
def test_python_blocks_run_one_after_the_other(page, desk, people, capsys):
    """The blocks of a page share their names, as in a notebook."""
    pictures = cycle(sorted((people / "synthetic" / "query").glob("*.jpg")))
    names = {"__name__": "__main__"}
    num_run = 0
    for code, reason in blocks(page):
        ast.parse(code)
        if not reason:
            exec(compile(prepare(code, desk, pictures), page, "exec"), names)
            num_run += 1
    text = PAGES[page].read_text()
    assert num_run == len(re.findall(r"^ *```python", text, re.MULTILINE)) - text.count("<!-- not run: ")


def test_the_lines_for_an_onnx_file_give_the_checkpoints_embeddings(desk, people):
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason='needs the extra: pip install "vitreid[onnx]"')
    checkpoint = "logs/market_vit_base/best.safetensors"
    ship(Order(checkpoint, "model.onnx", input="pixels", num_crops=16, rounds=1))
    names, pictures = {}, cycle(sorted((people / "synthetic" / "query").glob("*.jpg")))
    ((code, _),) = blocks("deploy.md")
    exec(compile(prepare(code, desk, pictures), "deploy.md", "exec"), names)
    expected = Embedder(checkpoint, "cpu", "fp32")(["a.jpg", "b.jpg", "c.jpg"])
    np.testing.assert_allclose(names["embeddings"], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("page", ["architecture.md", "glossary.md", "README.md"])
def test_files_that_a_page_names_exist(page):
    named = re.findall(r"`((?:\w+/)+(?:\w+\.(?:py|yml))?)`", PAGES[page].read_text())
    missing = [name for name in named if not (ROOT / name).exists() and name not in MADE_BY_USERS]
    assert not missing, f"{page}: {missing}"


@pytest.mark.parametrize("page", PAGES)
def test_links_to_files_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", PAGES[page].read_text()):
        assert (PAGES[page].parent / link).exists(), f"{page}: {link}"


def comparison_rows():
    """Return the rows of the tables of compare.md that have a column for each project, as lists of cells."""
    lines = [line for line in PAGES["compare.md"].read_text().splitlines() if line.count(" | ") > 3]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [cells for cells in rows if cells[0]]


def test_every_cell_of_the_comparison_says_where_it_was_read():
    for label, ours, *others in comparison_rows():
        assert len(others) == 8, label
        assert re.search(r"\]\([^)]+\)", ours), f"{label}: no page of ours"
        unread = [cell for cell in others if cell not in ("-", "?") and not re.fullmatch(r"\[.+\]\[[A-Z]\d*\]", cell)]
        assert not unread, f"{label}: {unread}"


def test_sources_of_the_comparison_are_of_a_commit_a_release_or_an_issue():
    text = PAGES["compare.md"].read_text()
    sources = re.findall(r"^\[([A-Z]\d*)\]: (.+)$", text, re.MULTILINE)
    fixed = r"https://github\.com/[\w.-]+/[\w.-]+/(?:(?:blob|tree)/(?:[0-9a-f]{40}|v[\d.]+)(?:/.+)?|issues/\d+)"
    assert not [url for name, url in sources if name != "R" and not re.fullmatch(fixed, url)]
    used = re.findall(r"\]\[([A-Z]\d*)\]", text)
    assert sorted(name for name, _ in sources) == sorted(set(used))
    in_package = {label for label, *_, reid, _ in comparison_rows() if reid.endswith("][R]")}
    assert in_package == set(re.findall(r"^\| (.+) \| `[\w/.]+:\d+", text, re.MULTILINE))


def test_the_option_table_has_every_option_with_its_default():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = (ROOT / "docs" / "options.md").read_text()
    assert page == hooks.on_page_markdown(page), "docs/options.md is not that of the code: run `python docs/hooks.py`"
    for key, option in OPTIONS.items():
        assert len(re.findall(rf"^\| `{key}` \|", page, re.MULTILINE)) == 1, key
        assert all(f"`{choice}`" in page for choice in option.choices or () if choice != ""), key
    assert "| `MODEL.SIE_COE` | `3.0` |" in page and "(at least 0)" in page
    assert hooks.on_page_markdown("no mark") == "no mark"


def test_every_page_is_in_the_navigation():
    class Loader(yaml.SafeLoader):
        """Reads what is plain YAML in the file."""

    nav = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)["nav"]
    assert sorted(page for entry in nav for page in entry.values()) == sorted(PAGES.keys() - {"README.md"})


def test_the_pages_build_without_a_warning(tmp_path):
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SOLVER.BASE_LR" in (tmp_path / "site" / "options" / "index.html").read_text()
    assert not (tmp_path / "site" / "hooks.py").exists()


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == vitreid.__version__
    assert "TransReID" in citation["references"][0]["title"]


def test_the_docker_image_runs_the_test_command():
    assert 'CMD ["make", "test"]' in (ROOT / "Dockerfile").read_text()
    assert ".git\n" in (ROOT / ".dockerignore").read_text()


def test_the_new_paths_of_moved_modules_exist():
    """Each path in the last column of the CHANGELOG's table imports."""
    section = (ROOT / "CHANGELOG.md").read_text().partition("### Moved modules")[2].partition("###")[0]
    rows = re.findall(r"^\| `([\w.]+)` \| (.*) \|$", section, re.MULTILINE)
    missing = [
        path
        for _, now in rows
        for path in re.findall(r"`([a-z_]+(?:\.[a-z_0-9]+)+)`", now)
        if importlib.util.find_spec(f"vitreid.{path}") is None
    ]
    assert len(rows) > 50 and not missing
