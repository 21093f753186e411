"""Small data and a small model that every test can train in a second."""

import logging
import os
import shutil
import tempfile
from pathlib import Path

# the key of this user's marks, see common/signature.py: not the tester's own, and the same in their processes
os.environ["XDG_STATE_HOME"] = os.path.join(tempfile.gettempdir(), f"vitreid-tests-{os.environ.get('USER', 'user')}")
os.environ["OMP_NUM_THREADS"] = "1"  # two test processes share two cores, and tests fork; set before torch is imported

import absl.logging  # a part of TensorBoard
import pytest

from vitreid.configs import load_config
from vitreid.datasets import build_data, label_map
from vitreid.datasets.synthetic.dataset import SyntheticPlan, generate
from vitreid.model import build_model, save_deploy
from vitreid.processor.runs.checkpoint import describe_model

# A program that sets up logging (uvicorn, Milvus Lite) closes absl's handler, and this one closes its stream: pytest's.
absl.logging.get_absl_handler().python_handler.close = lambda: None


IS_CLONE = Path(__file__).parents[1].joinpath("README.md").is_file()  # and not only the tests, for an installed wheel
OF_THE_CLONE = [  # files that need what a wheel leaves out: benchmarks, pages, examples, the sources as a folder
    *("benchmarks", "end_to_end/test_commands.py", "end_to_end/test_container.py", "end_to_end/test_docs.py"),
    *("end_to_end/test_house.py", "end_to_end/test_notebooks.py", "end_to_end/test_wheel.py"),
    *("gallery/test_milvus_server.py", "tools/test_reproduce.py", "security/test_bombs.py"),
    *("security/test_fuzz_findings.py", "security/test_no_numbers.py", "security/test_outputs.py"),
    *("security/test_strangers_files.py", "security/test_writers.py"),
]
collect_ignore = [] if IS_CLONE else OF_THE_CLONE


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """Folder with a few synthetic people in Market-1501's layout, under `synthetic/`."""
    root = tmp_path_factory.mktemp("data")
    generate(
        root / "synthetic",
        SyntheticPlan(
            num_train_ids=8, num_test_ids=6, num_distractors=2, num_cameras=3, images_per_camera=2, size=(64, 32)
        ),
    )
    return root


TINY = [
    *("MODEL.NAME", "vit_tiny_patch16_224", "MODEL.PRETRAIN_CHOICE", "none", "MODEL.DEVICE", "cpu"),
    *("MODEL.EMBED_DIM", "32", "MODEL.DEPTH", "2", "MODEL.NUM_HEADS", "2"),
    *("INPUT.SIZE_TRAIN", "(64, 32)", "INPUT.SIZE_TEST", "(64, 32)", "INPUT.PADDING", "2"),
    *("SOLVER.IMS_PER_BATCH", "16", "SOLVER.MAX_EPOCHS", "2", "SOLVER.WARMUP_EPOCHS", "0", "SOLVER.EVAL_PERIOD", "1"),
    *("SOLVER.PRECISION", "fp32", "DATALOADER.NUM_WORKERS", "1", "DATASETS.NAMES", "market1501"),
]


@pytest.fixture
def tiny(people, tmp_path):
    """Command-line options of a run that takes about a second; its folder is `tmp_path / "run"`."""
    return [*TINY, "DATASETS.ROOT_DIR", str(people / "synthetic"), "OUTPUT_DIR", str(tmp_path / "run")]


@pytest.fixture(scope="session")
def untrained(people, tmp_path_factory):
    """The best.safetensors of a run on the synthetic people before its first step; it knows their cameras."""
    words = [*TINY, "DATASETS.ROOT_DIR", str(people / "synthetic"), "MODEL.SIE_CAMERA", "True"]
    cfg = load_config(None, words)
    data = build_data(cfg)
    path = tmp_path_factory.mktemp("untrained") / "best.safetensors"
    save_deploy(path, build_model(cfg, data.train_cameras), describe_model(cfg, data, label_map(data.train), {}))
    return path


@pytest.fixture
def checkpoint(untrained, tmp_path):
    """A copy of `untrained` that a test may change."""
    return Path(shutil.copy(untrained, tmp_path))


@pytest.fixture(autouse=True)
def visible_log(caplog):
    """The tools keep their log to themselves; tests read it through caplog."""
    logger = logging.getLogger("vitreid")
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield
    logger.removeHandler(caplog.handler)
    logger.propagate = True
    for handler in [h for h in logger.handlers if type(h).__name__ == "_ProgressBarHandler"]:
        logger.removeHandler(handler)


def pytest_collection_modifyitems(items):
    """Skip what needs a clone where there is none. Run test_faults.py first: autograd refuses a fork once its threads run."""
    items.sort(key=lambda item: item.path.name != "test_faults.py")
    for item in items:
        if not IS_CLONE and item.get_closest_marker("clone"):
            item.add_marker(pytest.mark.skip(reason="needs a clone of the repository"))
