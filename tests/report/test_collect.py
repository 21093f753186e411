"""From a run folder to report.html: everything it holds is shown, and what it lacks is named."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from vitreid.configs import dump_config, parse_config
from vitreid.datasets import build_test_sets
from vitreid.model import ModelSpec, ReidModel, load_deploy, save_deploy, set_fused_attention
from vitreid.model.attention.maps import (
    camera_similarity,
    last_block_attention,
    part_attention,
    patch_similarity,
    position_similarity,
)
from vitreid.processor import load_features
from vitreid.processor.embedding.extract import build_embed_settings
from vitreid.report import ReportOptions, try_to_report, write_report
from vitreid.report import collect as collect_module
from vitreid.report import write as write_module
from vitreid.report.collect import collect, difference_of, read_epochs, saved_features
from vitreid.report.inspect_model import between_cameras, cosines, kinds_of_pairs
from vitreid.report.page.charts import Chart
from vitreid.report.write import run_names
from vitreid.tools import report as report_tool
from vitreid.tools import test as test_tool

EPOCHS = [{"epoch": 1, "id": 2.0, "loss": 2.0, "lr": 0.1}, {"epoch": 2, "id": 1.0, "loss": 1.0, "lr": 0.1, "mAP": 0.3}]
CHEAP = ReportOptions(num_queries=1, map_method="none")


@pytest.fixture
def undrawn(monkeypatch):
    """Charts take most of the time; a test that reads text needs none."""
    monkeypatch.setattr(Chart, "svg", lambda self: "<svg></svg>")
    monkeypatch.setattr(Chart, "png", lambda self: b"")


@pytest.fixture
def run_folder(untrained, tmp_path):
    """The folder of a run on the synthetic people, as training leaves it."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(untrained, folder / "best.safetensors")
    (folder / "config.yml").write_text(load_deploy(untrained)[1]["config"])
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in EPOCHS))
    return folder


@pytest.mark.slow
def test_the_tool_writes_the_page_and_its_pictures(run_folder, caplog):
    assert report_tool.main([str(run_folder), "--queries", "1", "--traceback"]) == 0
    html = (run_folder / "report.html").read_text()
    titles = re.findall(r"<h2>(.*?)</h2>", html)
    assert titles == [
        "How well people are found",
        "Training",
        "Distances of same and different people",
        "From camera to camera",
        "Hardest and best queries",
        "Map of embeddings",
        "Where the model looks",
        "What the side information does",
        "What the model knows about places",
        "Configuration and environment",
        "Left out",
    ]
    assert "<b>Parts of the jigsaw</b>: the model was trained without it" in html
    assert "check the data set&#39;s licence" in html
    assert "data:image/jpeg" in html
    pictures = {path.name for path in (run_folder / "report_pictures").iterdir()}
    assert {"training-loss.png", "queries-hardest.png", "attention.png", "side-after.png", "map-people.png"} <= pictures
    assert len(html) < 3e6
    assert "report.html" in caplog.text


def test_nobody_is_shown_where_pictures_are_not_wanted(run_folder, undrawn):
    write_report([run_folder], shown=ReportOptions(num_queries=1, pictures=False, map_method="none"))
    html = (run_folder / "report.html").read_text()
    assert "data:image/jpeg" not in html
    assert "Pictures of people are left out" in html
    assert "no picture" in html
    assert not (run_folder / "report_pictures" / "attention.png").exists()


def test_the_tool_shows_nobody_and_no_map_where_asked(run_folder, undrawn):
    assert report_tool.main([str(run_folder), "--queries", "1", "--no-pictures", "--map", "none"]) == 0
    html = (run_folder / "report.html").read_text()
    assert "data:image/jpeg" not in html and "Pictures of people are left out" in html
    assert "Map of embeddings" not in html


def test_pictures_of_an_earlier_report_do_not_stay(run_folder, undrawn):
    (run_folder / "report_pictures").mkdir()
    for name in ("attention.png", "mine.png"):
        (run_folder / "report_pictures" / name).write_bytes(b"old")
    write_report([run_folder], shown=ReportOptions(num_queries=0, pictures=False, map_method="none"))
    names = {path.name for path in (run_folder / "report_pictures").iterdir()}
    assert "attention.png" not in names
    assert {"mine.png", "training-loss.png"} <= names


def test_a_training_is_complete_without_its_report(run_folder, undrawn, caplog):
    try_to_report(run_folder, CHEAP)
    assert (run_folder / "report.html").exists()
    (run_folder / "best.safetensors").write_bytes(b"damaged")
    try_to_report(run_folder, CHEAP)
    assert "there is no report:" in caplog.text
    assert f"vitreid report {run_folder} tries again" in caplog.text


def test_a_failed_report_leaves_its_traceback_in_the_debug_log(run_folder, undrawn, caplog):
    (run_folder / "best.safetensors").write_bytes(b"damaged")
    with caplog.at_level("DEBUG", "vitreid.report"):
        try_to_report(run_folder, CHEAP)
    warning, detail = caplog.records[-2:]
    assert (warning.levelname, warning.exc_info) == ("WARNING", None)
    assert detail.levelname == "DEBUG" and detail.exc_info


# --- what a run may lack ------------------------------------------------------------------------------------------


def test_no_folder_and_no_run(tmp_path, capsys):
    assert report_tool.main([str(tmp_path / "nowhere")]) == 2
    assert f"{tmp_path / 'nowhere'} is no folder" in capsys.readouterr().err
    assert report_tool.main([str(tmp_path)]) == 2
    assert f"{tmp_path} holds no run" in capsys.readouterr().err


def test_without_weights_the_curves_are_shown(run_folder, undrawn):
    (run_folder / "best.safetensors").unlink()
    run = collect(run_folder, "run", [], CHEAP)
    assert len(run.epochs) == 2
    assert (run.test, run.model_pictures) == (None, None)
    assert "neither best.safetensors nor last.pth" in run.missing["The model"]
    html = write_report([run_folder], shown=CHEAP).read_text()
    assert "Training" in html
    assert "neither best.safetensors nor last.pth" in html


def test_where_the_data_set_has_moved_the_rest_is_shown(run_folder, tmp_path):
    cfg = ["DATASETS.ROOT_DIR", str(tmp_path / "moved")]
    run = collect(run_folder, "run", cfg, CHEAP)
    assert run.test is None
    assert "If they have moved, give DATASETS.ROOT_DIR FOLDER" in run.missing["Images of the test set"]
    assert run.model_pictures.positions is not None
    assert run.model_pictures.side.before is None
    assert "readable images" in run.missing["Effect of the side information"]
    assert "needs images" in run.missing["Attention"]


def test_the_new_place_of_the_data_set_can_be_given(run_folder, people, tmp_path):
    moved = shutil.copytree(people / "synthetic", tmp_path / "moved")
    (run_folder / "config.yml").write_text(
        dump_config(parse_config((run_folder / "config.yml").read_text(), ["DATASETS.ROOT_DIR", str(tmp_path / "old")]))
    )
    assert report_tool.split([str(run_folder), "DATASETS.ROOT_DIR", str(moved)])[1][1] == str(moved)
    assert collect(run_folder, "run", ["DATASETS.ROOT_DIR", str(moved)], CHEAP).test is not None


def test_a_half_written_line_is_left_out_and_said(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"epoch": 1, "loss": 2.0, "mAP": null}\n[3]\n{"epoch": 2, "lo')
    rows, sentences = read_epochs(file)
    assert rows == [{"epoch": 1, "loss": 2.0}]
    assert sentences == ["2 unreadable line(s) of metrics.jsonl are left out: writing was interrupted there."]


def test_an_epoch_that_was_written_again_counts_once(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"epoch": 2, "loss": 2.0}\n{"epoch": 1, "loss": 3.0}\n{"epoch": 2, "loss": 1.0}\n')
    assert read_epochs(file)[0] == [{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 1.0}]


def test_without_a_config_file_the_weights_tell_the_options(run_folder):
    (run_folder / "config.yml").unlink()
    (run_folder / "metrics.jsonl").unlink()
    run = collect(run_folder, "run", [], CHEAP)
    assert {option.key: option.value for option in run.options}["MODEL.EMBED_DIM"] == 32
    assert "no epoch is finished" in run.missing["Training curves"]


def test_a_model_without_attention_says_so(run_folder, untrained):
    about = load_deploy(untrained)[1]
    save_deploy(run_folder / "best.safetensors", ReidModel(ModelSpec("resnet10t", img_size=(64, 32))), about)
    run = collect(run_folder, "run", [], CHEAP)
    assert run.model_pictures.crops == []
    assert "has no attention over patches" in run.missing["Attention"]
    assert "no learned position embedding" in run.missing["Position embeddings"]
    assert "MODEL.SIE_CAMERA False" in run.missing["Side information"]
    assert run.test is not None


def test_wrong_wishes_are_refused(run_folder, capsys):
    assert report_tool.main([str(run_folder), "--queries", "-1"]) == 2
    assert "--queries: " in capsys.readouterr().err
    assert report_tool.main([str(run_folder), "--output", str(run_folder / "no" / "r.html")]) == 2
    assert "--output: " in capsys.readouterr().err
    assert report_tool.main(["SOLVER.SEED", "1"]) == 2
    assert "no run to report on" in capsys.readouterr().err
    with pytest.raises(ValueError, match="--map.*'umap'"):
        ReportOptions(map_method="umap")


def write_manifest(people, folder):
    """Write mine.csv: the test images of the synthetic people as a separate data set."""
    rows = ["path,pid,camid,split"]
    for split, place in (("query", "query"), ("gallery", "bounding_box_test")):
        files = sorted((people / "synthetic" / place).glob("*.jpg"))
        rows += [f"{file},{file.name[:4]},{file.name[5:7]},{split}" for file in files if file.name[:2] != "-1"]
    (folder / "mine.csv").write_text("\n".join(rows) + "\n")
    return folder / "mine.csv"


def test_a_truncated_config_names_its_file_and_line(run_folder, capsys):
    (run_folder / "config.yml").write_text("MODEL:\n  NAME: [1, ")
    assert report_tool.main([str(run_folder)]) == 2
    assert re.search(rf"{run_folder / 'config.yml'} .*line 2", capsys.readouterr().err)


# --- saved features -----------------------------------------------------------------------------------------------


@pytest.fixture
def with_features(run_folder):
    words = [
        "--weights",
        str(run_folder / "best.safetensors"),
        "--save-features",
        str(run_folder / "features.safetensors"),
    ]
    assert test_tool.main(words) == 0
    return run_folder


def test_saved_features_are_used_again(with_features, monkeypatch):
    monkeypatch.setattr(collect_module, "build_evaluator", None)  # nobody extracts
    assert saved_features(with_features) == [with_features / "features.safetensors"]
    assert collect(with_features, "run", [], CHEAP).test is not None


def test_saved_features_are_enough_where_the_model_must_not_run(with_features, people, tmp_path):
    gone = ReportOptions(num_queries=1, model=False, map_method="none")
    run = collect(with_features, "run", ["DATASETS.ROOT_DIR", str(tmp_path / "gone")], gone)
    assert run.test is not None
    assert run.model_pictures is None
    assert "--no-model" in run.missing["Pictures of the model"]


def test_without_saved_features_and_without_the_model_there_is_no_evaluation(run_folder):
    run = collect(run_folder, "run", [], ReportOptions(model=False))
    assert run.test is None
    assert "vitreid test --save-features" in run.missing["Evaluation"]


def test_features_of_other_weights_are_not_believed(with_features, untrained, caplog):
    model, about = load_deploy(untrained)
    torch.nn.init.normal_(model.backbone.net.patch_embed.proj.weight)
    save_deploy(with_features / "best.safetensors", model, about)
    fresh = collect(with_features, "run", [], CHEAP).test
    assert "its embeddings are of another model or other settings" in caplog.text
    assert not torch.allclose(
        fresh.features.query, load_features(with_features / "features.safetensors").query, atol=1e-3
    )


def test_features_of_other_images_than_those_asked_for_are_left_aside(with_features, people, tmp_path, caplog):
    """The images asked for win: another data set, and the same one after an image went."""
    cfg = ["DATASETS.TEST", "manifest", "DATASETS.MANIFEST", str(write_manifest(people, tmp_path))]
    assert collect(with_features, "run", cfg, CHEAP).test.features.dataset == "manifest"
    assert "it is about market1501, asked for is manifest" in caplog.text
    features = load_features(with_features / "features.safetensors")
    features.g_names.pop()
    cfg = parse_config((with_features / "config.yml").read_text())
    reason = difference_of(features, build_embed_settings(cfg), None, build_test_sets(cfg)[0])
    assert reason == "its gallery images are not those of market1501 as it is now"


def test_features_made_with_other_settings_are_left_aside(with_features, caplog):
    run = collect(with_features, "run", ["TEST.FLIP", "True"], CHEAP)
    assert "other settings" in caplog.text
    saved = load_features(with_features / "features.safetensors")
    assert not torch.allclose(run.test.features.query, saved.query, atol=1e-4)


# --- what is asked for, and what the run was ----------------------------------------------------------------------


def test_options_given_to_the_report_are_not_shown_as_the_runs(run_folder, undrawn):
    own = {option.key: option.value for option in collect(run_folder, "run", [], CHEAP).options}
    run = collect(run_folder, "run", ["TEST.RERANK", "k-reciprocal", "TEST.RERANK_K1", "4"], CHEAP)
    assert {option.key: option.value for option in run.options} == own
    assert run.sentences[0] == (
        "This report was made with other options than the run: TEST.RERANK k-reciprocal, TEST.RERANK_K1 4."
    )


def test_the_other_test_sets_are_named(run_folder, people, tmp_path):
    cfg = ["DATASETS.TEST", "['market1501', 'manifest']", "DATASETS.MANIFEST", str(write_manifest(people, tmp_path))]
    run = collect(run_folder, "run", cfg, CHEAP)
    assert run.test.features.dataset == "market1501"
    assert run.missing["Other test sets"].startswith("manifest: a report is about one, the first")


def test_an_output_that_cannot_be_a_page_is_refused_before_the_work(run_folder, capsys, monkeypatch):
    monkeypatch.setattr(write_module, "collect", None)  # nobody works
    (run_folder / "x_pictures").write_text("mine")
    (run_folder / "folder.html").mkdir()
    for name, message in (("r.pdf", "ends in .html"), ("folder.html", "is a folder"), ("x.html", "x_pictures")):
        assert report_tool.main([str(run_folder), "--output", str(run_folder / name)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: --output: ") and message in error


def test_a_users_folder_of_the_pages_name_is_left_alone(run_folder, undrawn, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "distances.png").write_bytes(b"mine")
    write_report([run_folder], tmp_path / "mine.html", shown=ReportOptions(num_queries=0, model=False))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["distances.png"]
    assert (tmp_path / "mine" / "distances.png").read_bytes() == b"mine"


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError("no memory")])
def test_too_little_memory_for_the_report_does_not_end_a_training(run_folder, monkeypatch, caplog, error):
    def look(*args):
        raise error

    monkeypatch.setattr(collect_module, "make_model_pictures", look)
    try_to_report(run_folder, CHEAP)
    assert "there is no report:" in caplog.text


def test_images_that_are_gone_are_counted(run_folder, people, tmp_path):
    moved = shutil.copytree(people / "synthetic", tmp_path / "moved")
    more = ["DATASETS.ROOT_DIR", str(moved)]
    features = collect(run_folder, "run", more, CHEAP).test.features
    names = [*features.q_names, *features.g_names]
    Path(names[0]).unlink()
    sentences = collect(run_folder, "run", more, CHEAP, features).sentences
    assert f"1 of {len(names)} images are not where they were, e.g. {Path(names[0]).name}." in sentences
    assert any(sentence.startswith("This page shows pictures") for sentence in sentences)


# --- several runs -------------------------------------------------------------------------------------------------


def test_two_runs_are_compared(run_folder, tmp_path, undrawn):
    other = shutil.copytree(run_folder, tmp_path / "other")
    assert report_tool.main([str(run_folder), str(other), "--queries", "1", "MODEL.DEVICE", "cpu"]) == 0
    html = (run_folder / "comparison.html").read_text()
    assert "Comparison: run, other" in html
    assert "other minus run, in percentage points" in html
    assert (run_folder / "comparison_pictures" / "accuracy-cmc.png").exists()


def test_runs_are_named_by_as_much_of_their_path_as_needed(tmp_path):
    assert run_names([tmp_path / "a" / "seed0", tmp_path / "b" / "seed0"]) == ["a/seed0", "b/seed0"]
    assert run_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    with pytest.raises(ValueError, match="the same run twice"):
        run_names([tmp_path / "a", tmp_path / "a"])


# --- maps of the model --------------------------------------------------------------------------------------------

IMAGES = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))


def build(**changes):
    torch.manual_seed(0)
    options = {"img_size": (64, 32), "embed_dim": 16, "depth": 3, "num_heads": 2, "cameras": ("a", "b"), **changes}
    model = ReidModel(ModelSpec("vit_tiny_patch16_224", **options)).eval()
    for module in model.modules():
        if hasattr(module, "qkv"):
            torch.nn.init.normal_(module.qkv.weight)  # uneven attention
    set_fused_attention(model, False)
    return model


def weights_used(model, attention):
    """Return the attention weights that a block's module multiplies with, caught on their way through its dropout."""
    seen = []
    attention.attn_drop.register_forward_hook(lambda module, given, result: seen.append(given[0].detach()))
    with torch.no_grad():
        model(IMAGES, torch.tensor([1, 0]))
    return seen[-1]


@pytest.mark.parametrize("changes", [{}, {"pool": "avg"}, {"sie_camera": True, "jpm": True, "num_parts": 2}])
def test_last_block_attention_is_what_the_block_uses(changes):
    model = build(**changes)
    used = weights_used(model, model.backbone.net.blocks[-1].attn).mean(1)
    first = model.backbone.net.num_prefix_tokens
    row = (used[:, 0] if first else used.mean(1))[:, first:]
    expected = (row / row.sum(1, keepdim=True)).view(2, 4, 2)
    torch.testing.assert_close(last_block_attention(model, IMAGES, torch.tensor([1, 0])), expected)


def test_part_attention_is_what_the_parts_use_and_empty_elsewhere():
    model = build(jpm=True, num_parts=2, shift_num=2)
    jigsaw = model.backbone.jigsaw
    used = weights_used(model, jigsaw.block.attn).mean(1)[:, 0, 1:].view(2, 2, 4)  # (B, parts, length)
    maps = part_attention(model, IMAGES, torch.tensor([1, 0])).flatten(2)
    for number, part in enumerate(jigsaw.parts):
        expected = used[:, number] / used[:, number].sum(1, keepdim=True)
        torch.testing.assert_close(maps[:, number, part], expected)
        others = [patch for patch in range(8) if patch not in part.tolist()]
        assert maps[:, number, others].isnan().all()
    assert len(jigsaw.parts) == 2


def test_a_model_without_parts_has_none_to_show():
    with pytest.raises(ValueError, match=r"MODEL\.JPM.*vit_tiny_patch16_224"):
        part_attention(build(), IMAGES)


def test_the_patch_in_the_middle_is_like_itself():
    similarity = patch_similarity(build(), IMAGES)
    assert similarity.shape == (2, 4, 2)
    torch.testing.assert_close(similarity[:, 2, 1], torch.ones(2))
    assert similarity.abs().max() <= 1 + 1e-5


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_position_similarity_is_of_the_patches_without_the_class_token(pool):
    model = build(pool=pool)
    places = model.backbone.net.pos_embed[0, -8:]
    expected = torch.nn.functional.cosine_similarity(places[3], places[6], dim=0)
    assert float(position_similarity(model)[1, 1, 3, 0].detach()) == pytest.approx(float(expected.detach()), abs=1e-6)
    assert position_similarity(ReidModel(ModelSpec("resnet10t", img_size=(64, 32)))) is None


def test_camera_rows_are_compared_without_what_they_share():
    model = build(sie_camera=True)
    with torch.no_grad():
        model.backbone.sie.table[:] = 5.0
        model.backbone.sie.table[0, 0] += 1
    torch.testing.assert_close(camera_similarity(model), torch.tensor([[1.0, -1], [-1, 1]]))
    assert camera_similarity(build()) is None


# --- side information ---------------------------------------------------------------------------------------------

PIDS, CAMERAS = np.array([1, 1, 2]), np.array([0, 1, 0])


def test_pairs_are_of_three_kinds():
    kinds = kinds_of_pairs(PIDS, CAMERAS)
    assert {kind: np.argwhere(np.triu(chosen)).tolist() for kind, chosen in kinds.items()} == {
        "same person, other camera": [[0, 1]],
        "different people, same camera": [[0, 2]],
        "different people, other camera": [[1, 2]],
    }


def test_similarity_between_cameras_is_of_different_people():
    similarity = np.array([[1, 0.9, 0.3], [0.9, 1, 0.5], [0.3, 0.5, 1]])
    found = between_cameras(similarity, PIDS, CAMERAS, 3)
    np.testing.assert_allclose(found, [[0.3, 0.5, np.nan], [0.5, np.nan, np.nan], [np.nan] * 3])


def test_what_all_crops_share_is_taken_out():
    np.testing.assert_allclose(cosines(np.array([[9.0, 1], [9, -1]], np.float32)), [[1, -1], [-1, 1]], atol=1e-6)
