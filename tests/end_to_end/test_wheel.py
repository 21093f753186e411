"""A wheel built from the repository does what the README shows: in another environment, from an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig

import pytest
from helpers import ROOT

pytestmark = pytest.mark.slow
NOT_BUILT = shutil.ignore_patterns(
    ".git", ".venv", "data", "logs", "site", "build", "*.egg-info", "__pycache__", ".*_cache"
)
SMALL = [
    *("MODEL.EMBED_DIM", "32", "MODEL.DEPTH", "1", "MODEL.NUM_HEADS", "2", "MODEL.DEVICE", "cpu"),
    *("SOLVER.MAX_EPOCHS", "1", "SOLVER.WARMUP_EPOCHS", "0", "DATALOADER.NUM_WORKERS", "1", "SOLVER.PRECISION", "fp32"),
    *("INPUT.SIZE_TRAIN", "(32, 16)", "INPUT.SIZE_TEST", "(32, 16)", "INPUT.PADDING", "1"),
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of the programs of an environment that holds the wheel; other packages come from this one, read-only.

    Packages are shared through a .pth file, so that nothing is downloaded. A .pth file inside a shared folder is not read: the
    editable vitreid of this environment stays invisible.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(ROOT, folder / "source", ignore=NOT_BUILT)  # setuptools builds inside the sources
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)], check=True
    )
    (wheel,) = folder.glob("vitreid-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    (site / "shared.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    python = folder / "env" / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], check=True)
    return folder / "env" / "bin"


@pytest.fixture
def run(installed, tmp_path):
    """Run a program of the environment in an empty folder; return what it printed."""

    def run_there(program, *words):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [str(installed / program), *map(str, words)], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    return run_there


def test_the_wheel_holds_the_package_and_no_benchmarks(run):
    code = "import vitreid, importlib.util as u; print(vitreid.__file__); print(u.find_spec('vitreid.benchmarks'))"
    where, benchmarks = run("python", "-c", code).splitlines()
    assert "site-packages" in where and str(ROOT) not in where
    assert benchmarks == "None"


def test_recipes_are_found_by_name_from_an_empty_folder(run):
    assert "market/vit_base" in run("vitreid", "recipes")
    by_name = run("vitreid", "summary", "--config_file", "market/vit_base")
    assert by_name == run("vitreid", "summary", "--config_file", "configs/market/vit_base.yml")


def test_the_commands_of_the_readme_work(run, tmp_path):
    """Train, evaluate, embed, search and report on synthetic people, by one command."""
    run("vitreid", "train", "--config_file", "synthetic/vit_tiny", *SMALL, "OUTPUT_DIR", "run", "--no-report")
    weights = "run/best.safetensors"
    run("vitreid", "test", "--weights", weights)
    assert 0 < json.loads((tmp_path / "run" / "metrics.json").read_text())["mAP"] <= 1
    run(
        "vitreid",
        "export",
        "--weights",
        weights,
        "--input",
        "synthetic:gallery",
        "--root",
        "data",
        "--output",
        "gallery",
    )
    query = min((tmp_path / "data" / "synthetic" / "query").glob("*.jpg"))
    found = json.loads(
        run("vitreid", "search", "--gallery", "gallery", "--weights", weights, "--query", query, "--json")
    )
    assert len(found) == 1
    run("vitreid", "report", "run", "--map", "none")
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
