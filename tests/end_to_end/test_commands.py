"""The commands that README and docs show run, in the order of their page, on a few small people and a small model.

A page's commands find a desk: a folder with the data, weights and pictures that the pages speak of. They run as a shell
reads them, but for SMALLER, ADDED and REPLACED (small sizes); what no test can run is in SKIPPED, with its reason.
"""

import csv
import http.client
import importlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import cycle, pairwise
from pathlib import Path

import pytest
from films import walk_frames, write_folder, write_mot, write_video
from helpers import ROOT
from published_trees import draw_tree

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')
pytest.importorskip("uvicorn", reason='needs the extra: pip install "vitreid[serve]"')
pytest.importorskip("onnx", reason='needs the extra: pip install "vitreid[onnx]"')
pytest.importorskip("onnxruntime", reason='needs the extra: pip install "vitreid[onnx]"')
pytest.importorskip("onnxscript", reason='needs the extra: pip install "vitreid[onnx]"')

import torch
import uvicorn

from vitreid.benchmarks import shipping
from vitreid.configs import load_config
from vitreid.datasets.synthetic import dataset as synthetic_dataset
from vitreid.datasets.synthetic import film as _film  # noqa: F401  imported before REPLACED changes the plan that it reads
from vitreid.gallery.web import server as web_server
from vitreid.labels import camera_norm
from vitreid.model import load_deploy
from vitreid.tools import train as train_tool
from vitreid.tools.cli.main import COMMANDS
from vitreid.tools.published import backbones

pytestmark = pytest.mark.slow

PAGES = {page.name: page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
SHELLS = {"bash", "sh", "console"}
STARTS = r"(?:python|torchrun|vitreid|vitreid-[\w-]+) "
ASIDE = re.compile(rf"^    ({STARTS}.+)|`({STARTS}[^`]+)`", re.MULTILINE)  # an indented line, or in a sentence
OURS = re.compile(
    r"(mkdir -p [\w/]+|python (tools|examples|benchmarks)/[\w/]+\.py|torchrun .*\btools/\w+\.py|vitreid [a-z-]+|vitreid-[\w-]+)( |$)"
)
SCRIPTS = dict(re.findall(r'^(vitreid-[\w-]+) = "([\w.]+):main"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
OTHERS = {".", "cd", "docker", "git", "make", "mkdir", "pip", "pre-commit", "python3", "source"}  # not ours

SKIPPED = {  # what is not run: why
    r"…": "not a whole command; the pages show it elsewhere, or what it stands for needs another project's code",
    r"^make demo$": "installs first; what it runs then, test_the_lines_of_make_demo_run runs",
    r"^make (test|check)$": "these tests are what it runs",
    r"^(python3 -m venv|\. \S+/activate$|source )": "makes an environment; that of the tests stands",
    r"^(pip install|git clone|pre-commit) ": "changes the machine, and needs a network",
    r" hf-hub:": "needs the Hugging Face hub; see tests/model/test_hub.py",
    r"^vitreid benchmark model\.onnx": "needs another's model; see tests/tools/test_benchmark.py",
    r" --int8 ": "needs 32 crops and a trained model; see tests/deploy/test_int8.py",
    r"^docker ": "needs a docker daemon and a network",
    r" milvus:http|milvus_recall": "needs a Milvus server",
    r" fiftyone:": "needs FiftyOne with its database; see tests/gallery/test_exchange.py",
    r"rtsp://": "needs a camera",
    r"--video VIDEO": "needs a recording and a detector; tests/benchmarks has small ones",
    r"--detector people\.onnx": "needs a detector; tests/tracking has small ones",
    r"^python benchmarks/.* DIR\b": "needs checkouts of other projects' code",
    r"--weights (model|person-reidentification)\S*\.(onnx|xml)": "needs another's model; tests/processor/test_finished_models.py has small ones",
    r"0287\.safetensors|models/0287": "needs another's model; tests/model has small ones",
    r"market_attribute\.mat": "needs the file of its authors; see tests/gallery/test_attributes.py",
    r"carried/(pack|train)_parts": "needs Market-1501 and weights of others; see tests/benchmarks/test_carried.py",
    r"--unpack cuhk03": "needs the archive of its authors; see tests/datasets/test_cuhk03_archive.py",
    r"--features people\.npz": "needs another's model and Market-1501; tests/benchmarks has random people",
    r"^python docs/hooks\.py$": "rewrites a page of the clone; see test_docs.py",
    r"--library PYTHON": "needs an environment with another library",
    r"--fuse ": "needs the embeddings of two models; see tests/processor/test_feature_file.py",
    r"^vitreid (test|search|export|export-model|serve|track|train|pretrain|identities|identify|benchmark|adapt)$": "the name of a command in a sentence",
    r"^python examples/track_with_boxmot": "needs BoxMOT, with an environment of its own; see test_ship_trackers.py",
}
SMALLER = {  # what is shown: what is run instead
    r"(?<![\w./])/data\b": "{desk}/data",
    r"torchrun (--nnodes=\d+ )?--nproc_per_node=\d+( --rdzv_\S+)*": "torchrun --standalone --nproc_per_node=2",  # on a free port
    r"\blast_epoch_\d+": "last_epoch_001",
    r"DATASETS.VAL_IDS \d+": "DATASETS.VAL_IDS 2",
    r'LOG\.TRACKERS "\[.*?\]"': 'LOG.TRACKERS "[]"',  # tests/processor/test_trackers.py has them, without a network
    r"--dim \d+": "--dim 8",
    r"duration>=2": "duration>=0.1",  # the recording is short
    r"hat_probability>=0.9": "hat_probability>=0.5",  # of random weights
    r"vitreid film --output data/film": "vitreid film --output data/film --people 2 --cameras 1 --seconds 6",
    r"\bFILE\b": "file.json",  # a placeholder
    r"usl_vit_small_dinov2_cpu (?=[A-Z])": "usl_vit_small_dinov2_cpu UNSUPERVISED.EPS 0.3 ",  # random weights: one cluster
    r"usl_vit_small_dinov2 (?=[A-Z])": "usl_vit_small_dinov2 UNSUPERVISED.CLUSTERING linkage ",  # the same
}
SMALL = {
    "MODEL.NAME": "vit_tiny_patch16_224",
    "MODEL.PRETRAIN_CHOICE": "none",
    "MODEL.DEVICE": "cpu",
    "MODEL.EMBED_DIM": "32",
    "MODEL.DEPTH": "2",
    "MODEL.NUM_HEADS": "2",
    "MODEL.FREEZE_BLOCKS": "0",
    "INPUT.SIZE_TRAIN": "(64, 32)",
    "INPUT.SIZE_TEST": "(64, 32)",
    "INPUT.PADDING": "2",
    "SOLVER.IMS_PER_BATCH": "32",
    "SOLVER.MAX_EPOCHS": "1",
    "SOLVER.WARMUP_EPOCHS": "0",
    "SOLVER.KEEP_LAST": "3",
    "SOLVER.PRECISION": "fp32",
    "DATALOADER.NUM_WORKERS": "1",
    "UNSUPERVISED.ITERATIONS": "2",
}
ADDED = {  # program: words at the end of its commands; SMALL is for those that take a recipe
    "train": ["--no-report"],
    "pretrain": ["--overwrite", "PRETRAIN.LOCAL_SIZE", "(32, 16)", "PRETRAIN.PROTOTYPES", "16"],
    "tune": ["--trials", "1"],
    "adapt": ["SOLVER.MAX_EPOCHS", "1", "UNSUPERVISED.ITERATIONS", "2", "--overwrite"],
    "benchmark": ["--seconds", "0", "--overwrite"],
    "export_model": ["--num-crops", "16", "--rounds", "1"],
    "serve": ["--port", "0"],  # a free one
    "shipping": ["--quick", "--formats", "torchscript"],
    "benchmarks/gallery": ["--quick"],
    "benchmarks/galleries/identities": ["--quick"],
    "million_crops": ["--quick"],
    "serving": ["--quick", "--clients", "1", "--seconds", "1"],
    "serving_attack": ["--quick", "--clients", "1", "--hostile", "1", "--idle", "10", "--seconds", "1"],
    "fuzz": ["--quick", "--kind", "boxes"],
    "gpu": ["--device", "cpu", "--quick", "--parts", "losses"],
    "reproduce": ["--list"],  # tests/tools/test_generalisation.py and test_reproduce.py run small ones
    "kills": ["--quick", "--writer", "features"],
    "budget": [
        *("--minutes", "0.01", "--val-ids", "2"),
        *(
            "--recipe",
            "market/vit_base.yml " + " ".join(f"{key} {value.replace(' ', '')}" for key, value in SMALL.items()),
        ),
    ],
}
make_plan = synthetic_dataset.SyntheticPlan
PLAN = make_plan(
    num_train_ids=12, num_test_ids=12, num_distractors=2, num_cameras=3, images_per_camera=2, size=(64, 32)
)


def ask_for_health(app, sockets, *_):
    """In place of a server that runs until Ctrl-C: serve, ask once, leave."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    thread = threading.Thread(target=server.run, args=(sockets,))
    thread.start()
    try:
        while thread.is_alive() and not server.started:
            time.sleep(0.01)
        request = http.client.HTTPConnection(*sockets[0].getsockname()[:2], timeout=30)
        request.request("GET", "/health")
        assert request.getresponse().status == 200
    finally:
        server.should_exit = True
        thread.join()


REPLACED = (  # name: what is there instead
    (synthetic_dataset, "SyntheticPlan", lambda **plan: make_plan(**plan) if plan else PLAN),
    (web_server, "run", ask_for_health),
    (backbones, "ENTRIES", backbones.ENTRIES[-1:]),
    (shipping, "PARTS", {"plain": {}}),
    (camera_norm, "LEAST_IMAGES", 5),
)


# --- reading the pages --------------------------------------------------------------------------------------------


def split(block):
    """Return the commands of a block, without comments; `a && b` are two."""
    lines = [re.sub(r"(^|\s)#.*", "", line) for line in block.replace("\\\n", " ").splitlines()]
    return [command.strip() for line in lines for command in line.split("&&") if command.strip()]


def commands(text):
    """Return the commands that a page shows: those of its bash blocks, then of indented lines and in sentences."""
    shown = [command for kind, block in FENCED.findall(text) if kind in SHELLS for command in split(block)]
    aside = [" ".join(one.split()) for found in ASIDE.findall(FENCED.sub("", text)) for one in found if one]
    return [*shown, *aside]


def reason_to_skip(command):
    return next((why for what, why in SKIPPED.items() if re.search(what, command)), None)


SHOWN = {page: commands(path.read_text()) for page, path in PAGES.items()}
RUN_HERE = {page: [command for command in SHOWN[page] if not reason_to_skip(command)] for page in PAGES}


def test_every_block_is_of_a_kind_that_is_tested():
    """Python blocks run in test_docs.py."""
    for page, path in PAGES.items():
        assert {kind for kind, _ in FENCED.findall(path.read_text())} <= {*SHELLS, "python", "json", "yaml"}, page


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_skipped_without_a_reason(page):
    for command in RUN_HERE[page]:
        assert OURS.match(command), f"{page}: {command}: neither a program of ours nor in SKIPPED"
    starts = r"\bpython (?:tools|examples|benchmarks)/|\btorchrun \S|\bvitreid-[\w-]+ -|\bvitreid (?:train|test|export|search|serve|report|summary|convert|gallery) \S"
    found = sum(len(re.findall(starts, command)) for command in SHOWN[page])
    assert found == len(re.findall(starts, PAGES[page].read_text())), (
        f"{page}: a command in a place where no test looks"
    )


def test_commands_of_ours_exist():
    """make's targets, pip's extras, scripts, installed commands."""
    project = (ROOT / "pyproject.toml").read_text()
    targets = re.findall(r"^([\w/.]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page, shown in SHOWN.items():
        for command in shown:
            program, *words = command.split()
            where = f"{page}: {command}"
            if program == "make":
                assert all(word in targets for word in words if "=" not in word), where
            elif program == "pip":
                extras = [extra for group in re.findall(r"\.\[(.*?)\]", command) for extra in group.split(",")]
                assert all(f"\n{extra} = [" in project for extra in extras), where
            elif program == "vitreid":
                assert words[0] in COMMANDS, where
            elif program in ("python", "torchrun"):
                scripts = [word for word in words if word.endswith(".py")]
                assert "-m" in words or "-c" in words or all((ROOT / script).exists() for script in scripts), where
            else:
                assert program in {*OTHERS, *SCRIPTS}, f"{where}: an unknown program"


# --- the desk -----------------------------------------------------------------------------------------------------


def write_rows(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def lay_out_msmt17(folder, market):
    """The people of `market` in MSMT17's layout; the second half of its training list is the validation list."""
    lists = {"train": [], "query": [], "gallery": []}
    for split_name, source in (("train", "bounding_box_train"), ("query", "query"), ("gallery", "bounding_box_test")):
        pictures = [path for path in sorted((market / source).glob("*.jpg")) if not path.name.startswith("0000")]
        pids = sorted({int(path.name[:4]) for path in pictures})
        for number, path in enumerate(pictures):
            pid, camera = pids.index(int(path.name[:4])), int(path.name.partition("_c")[2][0])
            name = f"{pid:04d}/{pid:04d}_{number:03d}_{camera:02d}_{split_name}.jpg"
            target = folder / ("train" if split_name == "train" else "test") / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            lists[split_name].append(f"{name} {pid}\n")
    half = len(lists["train"]) // 2
    lists["val"], lists["train"] = lists["train"][half:], lists["train"][:half]
    for name, lines in lists.items():
        (folder / f"list_{name}.txt").write_text("".join(lines))


def lay_out_data(data):
    """Each layout that the pages mention, most with the same people, and people.csv, attributes.csv and crops.csv next to it."""
    market = data / "market1501"
    synthetic_dataset.generate(market, PLAN)
    lay_out_msmt17(data / "MSMT17", market)
    draw_tree(data, "mars")
    subsets = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    people = []
    for name, subset in subsets.items():
        for path in sorted((market / subset).glob("*.jpg")):
            pid, camera = path.name.split("_")[0], path.name.split("_")[1][:2]
            people.append({"path": path.relative_to(data.parent), "pid": pid, "camid": camera, "split": name})
            for copy in (data / "people" / pid / path.name, data / "crops" / path.name):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
    shutil.rmtree(data / "people" / "0000")  # nobody
    shutil.copytree(market / "query", data / "distractors_500k")
    shutil.copy(min((market / "query").glob("*.jpg")), data.parent / "who.jpg")
    write_rows(data.parent / "people.csv", [row for row in people if row["pid"] != "0000"])
    turns = cycle(("yes", "no"))
    hats = {pid: next(turns) for pid in dict.fromkeys(row["pid"] for row in people)}
    write_rows(data.parent / "attributes.csv", [{"pid": pid, "hat": hat} for pid, hat in hats.items()])
    days = cycle(("2026-01-31T07:59:00", "2026-02-01T12:00:00"))
    crops = [{"path": row["path"], "camera": row["camid"], "time": next(days)} for row in people]
    write_rows(data.parent / "crops.csv", crops)


def lay_out_films(desk):
    """A recording, and a sequence of MOTChallenge with its labels."""
    frames, boxes = walk_frames()
    write_video(desk / "lobby.mp4", frames, codec="mp4v")
    sequence = desk / "MOT17" / "train" / "MOT17-02-FRCNN"
    write_folder(sequence / "img1", frames)
    (sequence / "gt").mkdir()
    write_mot(sequence / "gt" / "gt.txt", boxes)


def write_transreid(path, weights):
    """The model under the names of the original TransReID."""
    state = load_deploy(weights)[0].state_dict()
    names = ((r"^backbone\.net\.", "base."), (r"^neck\.", "bottleneck."))
    for old, new in names:
        state = {re.sub(old, new, name): value for name, value in state.items()}
    torch.save(state, path)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with what the pages take for granted: the recipes, data, two runs, pictures."""
    desk = tmp_path_factory.mktemp("desk")
    for folder in ("configs", "tools", "examples", "benchmarks"):
        (desk / folder).symlink_to(ROOT / folder)
    (desk / "docs").mkdir()
    lay_out_data(desk / "data")
    lay_out_films(desk)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        for recipe in ("vit_base", "vit_transreid"):
            words = ["--config_file", f"configs/market/{recipe}.yml", *small_for([])]
            assert train_tool.main([*words, "--no-report"]) == 0
    run = Path("logs/market_vit_base")
    (desk / "RUN").symlink_to(run)
    (desk / "best.safetensors").symlink_to(run / "best.safetensors")
    write_transreid(desk / "transreid.pth", desk / run / "best.safetensors")
    return desk


@pytest.fixture
def desk(prepared, tmp_path, monkeypatch):
    """A copy of `prepared`, as the current folder."""
    shutil.copytree(prepared, tmp_path / "desk", symlinks=True)
    monkeypatch.chdir(tmp_path / "desk")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.delenv("VITREID_TOKEN", raising=False)
    for place, name, value in REPLACED:
        monkeypatch.setattr(place, name, value)
    return Path.cwd()


# --- running ------------------------------------------------------------------------------------------------------


def small_for(words):
    """Return SMALL as words, without the options that `words` set."""
    return [word for key, value in SMALL.items() if key not in words for word in (key, value)]


def as_the_shell_reads(command):
    """Return the words of a command: quotes, wildcards and `$(…)` are resolved."""
    done = subprocess.run(["bash", "-c", rf"printf '%s\0' {command}"], capture_output=True, text=True, check=True)
    assert done.stdout, f"{command}: the shell sends its output elsewhere; quote what reads as a redirection"
    return done.stdout.split("\0")[:-1]


def tool_of(words):
    """Return the module of tools/ or benchmarks/ that a command starts; "" for another program."""
    if words[0] == "vitreid":
        return COMMANDS[words[1]].module.rpartition(".")[2]
    if words[:2] in (["python", "benchmarks/gallery.py"], ["python", "benchmarks/galleries/identities.py"]):
        return words[1].removesuffix(".py")  # `vitreid gallery` and `vitreid identities` are other commands
    names = [Path(word).stem for word in words if word.endswith(".py") or word in SCRIPTS]
    return names[0].removeprefix("vitreid-").replace("-", "_") if names else ""


def made_small(words):
    """Return the words of a command of ours with what ADDED and SMALL say."""
    tool = tool_of(words)
    added = list(ADDED.get(tool, ()))
    if tool in ("train", "pretrain", "tune", "check_data", "convert") or (tool == "test" and "--config_file" in words):
        added += small_for(words)
    if tool == "train" and "--resume" in words:
        added += ["SOLVER.MAX_EPOCHS", "2"]
    elif tool == "train" and "--profile" not in words and "--overwrite" not in words:
        added += ["--overwrite"]  # pages show several ways to the same folder
    return [*words, *added]


def files_of(words):
    """Return the files and folders that a command says it makes."""
    options = ("--output", "--save-features", "--json", "--montage", "--fix", "--sheet", "OUTPUT_DIR")
    made = [after for word, after in pairwise(words) if word in options and not after.startswith("-")]
    if tool_of(words) == "train" and "--profile" not in words and "OUTPUT_DIR" not in words:
        made.append(load_config(words[words.index("--config_file") + 1], []).OUTPUT_DIR)
    return [Path(name) for name in made]


def start(words):
    """Run a command of ours and return its exit status; all but torchrun's workers are this process: it has torch."""
    program, *rest = words
    if program == "torchrun":
        return start_together(rest)
    if program == "mkdir":
        return subprocess.run(words, check=False).returncode
    if program == "vitreid":
        module = "vitreid.tools.cli.main"
    elif program in SCRIPTS:
        module = SCRIPTS[program]
    else:
        module, rest = f"vitreid.{rest[0].removesuffix('.py').replace('/', '.')}", rest[1:]
    try:
        return importlib.import_module(module).main(rest)
    except SystemExit as leave:  # argparse
        return leave.code


def start_together(words):
    """Do what `torchrun` does with the words; its handlers of signals do not stay."""
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    }
    try:
        torchrun.main(words)
    except ChildFailedError as failed:
        return next(iter(failed.failures.values())).exitcode
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return 0


def run(command, where, output):
    """Run a command as shown, but small; it succeeds and makes the files that it names."""
    for shown, instead in SMALLER.items():
        command = re.sub(shown, instead.format(desk=Path.cwd()), command)
    words = made_small(as_the_shell_reads(command))
    status = start(words)
    said = output.readouterr()
    assert status == 0, f"{where}\nrun as: {' '.join(words)}\nstatus {status}: {said.out[-2000:]}{said.err[-4000:]}"
    assert "no record passes the conditions" not in said.out, f"{where}\nfound nothing"
    missing = [str(path) for path in files_of(words) if not path.exists()]
    assert not missing, f"{where}\nran, but did not make {', '.join(missing)}"


DONE = set()  # commands that have run in this process; not run again on a page whose desk has what they make


@pytest.mark.parametrize("page", [page for page in PAGES if RUN_HERE[page]])
def test_commands_run_one_after_the_other(page, desk, capfd):
    for command in RUN_HERE[page]:
        if command not in DONE or not all(path.exists() for path in files_of(command.split())):
            run(command, f"{page}: {command}", capfd)
            DONE.add(command)
    assert [command for command in RUN_HERE[page] if command not in DONE] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_lines_of_make_demo_run(desk, capfd):
    asked = ["make", "--no-print-directory", "-n", "-o", ".venv/installed", "-C", str(ROOT), "demo"]
    lines = split(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    ours = [line.removeprefix(".venv/bin/") for line in lines if not line.startswith("echo ")]
    assert len(ours) == 8 and all(OURS.match(line) for line in ours), ours
    for line in ours:
        run(line, f"make demo: {line}", capfd)
    assert Path("logs/synthetic_vit_tiny/report.html").exists()
