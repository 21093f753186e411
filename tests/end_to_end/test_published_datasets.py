"""Every published data set on a small tree of its layout: read, a training, its evaluation, its features from a file."""

import pytest
from conftest import TINY
from published_trees import TREES, draw_tree

from vitreid.configs import load_config
from vitreid.datasets.published.catalog import PUBLISHED
from vitreid.datasets.readers.dataset_registry import DATASETS
from vitreid.processor import train
from vitreid.processor.scoring import evaluator
from vitreid.tools import test as test_tool

pytestmark = pytest.mark.slow
OWN = {"synthetic", "manifest", "folder", "crops"}


def test_every_published_data_set_has_a_tree():
    assert set(DATASETS) - OWN == set(TREES)


WITH_VIEWS = ("veri", "sysu-mm01", "regdb", "ag-reid", "cargo")  # and their variants
TEST_ONLY, TRAINING_ONLY = ("occluded-reid", "partial-reid"), ("cuhk-sysu", "msmt17-merged", "luperson", "luperson-nl")
UNLABELLED = ("luperson",)
RUN = [name for name in TREES if not name.startswith("regdb-")]  # the trials of RegDB differ in their lists only


@pytest.mark.parametrize("name", RUN)
def test_a_data_set_is_trained_on_and_evaluated(name, tmp_path, capsys):
    draw_tree(tmp_path, name)
    trained, tested = ("market1501" if name in others else name for others in (TEST_ONLY, TRAINING_ONLY))
    if trained != tested:
        draw_tree(tmp_path, "market1501")
    words = [
        *(*TINY, "SOLVER.MAX_EPOCHS", "1", "DATASETS.NAMES", trained, "DATASETS.ROOT_DIR", str(tmp_path)),
        *("DATASETS.TEST", f"('{tested}',)"),
        *(
            "OUTPUT_DIR",
            str(tmp_path / "run"),
            "MODEL.SIE_CAMERA",
            "True",
            "MODEL.SIE_VIEW",
            str(name.startswith(WITH_VIEWS)),
        ),
        *(("UNSUPERVISED.CLUSTERING", "dbscan", "UNSUPERVISED.EPS", "0.3") if name in UNLABELLED else ()),
        *(("DATALOADER.CLIP_FRAMES", "2") if PUBLISHED[name].items == "tracklets" else ()),
    ]
    result = train(load_config(None, words))
    assert result.mAP > 0
    features = str(tmp_path / "features.safetensors")
    weights = ["--weights", str(tmp_path / "run" / "best.safetensors"), "DATASETS.ROOT_DIR", str(tmp_path)]
    assert test_tool.main([*weights, "--save-features", features]) == 0
    first = capsys.readouterr().out
    assert f"{100 * result.mAP:.2f}" in first
    assert test_tool.main(["--features", features]) == 0
    again = capsys.readouterr().out
    assert _table(again) == _table(first)
    for setting in PUBLISHED[tested].settings:
        assert f"{tested} {setting.name}".strip() in _table(first)


def _table(printed):
    """Return the lines of the data sets' figures by their titles."""
    rows = [line.split("  ") for line in printed.splitlines() if line.count(".") >= 6]
    return {row[0].strip(): row[1:] for row in rows}


def test_reranking_does_not_go_with_drawn_galleries(tmp_path):
    draw_tree(tmp_path, "vehicleid")
    words = [*TINY, "DATASETS.NAMES", "vehicleid", "DATASETS.ROOT_DIR", str(tmp_path), "TEST.RERANK", "k-reciprocal"]
    with pytest.raises(ValueError, match=r"TEST\.RERANK: k-reciprocal does not go with vehicleid"):
        train(load_config(None, [*words, "TEST.RERANK_K1", "5", "OUTPUT_DIR", str(tmp_path / "run")]))


def test_images_that_are_queries_and_gallery_are_embedded_once(tmp_path, monkeypatch):
    draw_tree(tmp_path, "vehicleid")
    titles, embed = [], evaluator.extract
    monkeypatch.setattr(evaluator, "extract", lambda *args: titles.append(args[5]) or embed(*args))
    words = ["SOLVER.MAX_EPOCHS", "1", "DATASETS.NAMES", "vehicleid", "DATASETS.ROOT_DIR", str(tmp_path)]
    train(load_config(None, [*TINY, *words, "OUTPUT_DIR", str(tmp_path / "run")]))
    assert titles == ["query"]
