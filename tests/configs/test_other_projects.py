"""Config files of other projects: read as far as they fit, else refused in one message that lists every option."""

import pytest

from vitreid.configs import load_config
from vitreid.configs.defaults import OPTIONS
from vitreid.configs.other_projects import FAST_REID

TRANSREID = """
MODEL: {NAME: transformer, TRANSFORMER_TYPE: %s, METRIC_LOSS_TYPE: triplet, IF_LABELSMOOTH: 'off', NO_MARGIN: True,
        PRETRAIN_HW_RATIO: 2, STRIDE_SIZE: [16, 16]%s}
DATALOADER: {SAMPLER: softmax_triplet}
SOLVER: {OPTIMIZER_NAME: SGD, MAX_EPOCHS: 120, WARMUP_METHOD: cosine, LARGE_FC_LR: False}
TEST: {RE_RANKING: False, FEAT_NORM: 'yes', NECK_FEAT: before, EVAL: True}
"""
FILES = {  # project -> text, and options that it sets here
    "TransReID-SSL": (
        TRANSREID % ("vit_small", ", STEM_CONV: True"),
        {"MODEL.STEM": "ics", "MODEL.NAME": "vit_small_patch16_224"},
    ),
    "PersonViT": (
        TRANSREID % ("vit_base", ", STEM_CONV: False"),
        {"MODEL.STEM": "patch", "MODEL.NAME": "vit_base_patch16_224"},
    ),
    "SOLIDER": (TRANSREID % ("swin_base_patch4_window7_224", ""), {"MODEL.NAME": "solider_swin_base"}),
    "CLIP-ReID": (
        "MODEL: {NAME: ViT-B-16, METRIC_LOSS_TYPE: triplet, IF_LABELSMOOTH: 'on'}\n"
        "SOLVER: {WARMUP_ITERS: 10, MAX_EPOCHS: 60, WARMUP_METHOD: linear}\nDATASETS:\n",
        {"MODEL.NAME": "vit_base_patch16_clip_224.openai", "SOLVER.WARMUP_EPOCHS": 10},
    ),
    "BoT": (
        "MODEL: {METRIC_LOSS_TYPE: triplet_center, IF_LABELSMOOTH: 'on'}\n"
        "SOLVER: {WARMUP_ITERS: 10, CLUSTER_MARGIN: 0.3, RANGE_K: 2, RANGE_LOSS_WEIGHT: 1}\n",
        {"MODEL.NAME": "resnet50_stride1", "LOSS.CENTER_WEIGHT": 0.0005, "SOLVER.WARMUP_EPOCHS": 10},
    ),
}


def value_of(cfg, key):
    section, name = key.split(".")
    return cfg[section][name]


@pytest.mark.parametrize("project", FILES)
def test_a_file_of_a_project_built_on_transreid_is_read(project, tmp_path):
    text, expected = FILES[project]
    (tmp_path / "theirs.yml").write_text(text)
    cfg = load_config(tmp_path / "theirs.yml")
    assert {key: value_of(cfg, key) for key in expected} == expected


def test_all_unknown_options_are_listed_at_once(tmp_path):
    (tmp_path / "theirs.yml").write_text("MODEL: {NAMEE: a, DEPTH: deep}\nSOLVER: {MAX_EPOCH: 3}\nOTHER: {A: 1}\n")
    with pytest.raises(ValueError, match="4 options cannot be read") as caught:
        load_config(tmp_path / "theirs.yml", ["SOLVER.BASE_LR", "0.1"])
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "MODEL.NAMEE",
        "MODEL.DEPTH",
        "SOLVER.MAX_EPOCH",
        "OTHER.A",
    ]


def test_a_file_of_fast_reid_is_named_with_our_name_of_each_option(tmp_path):
    (tmp_path / "theirs.yml").write_text(
        "MODEL: {META_ARCHITECTURE: Baseline, BACKBONE: {NAME: build_resnet_backbone, WITH_IBN: True}}\n"
        "INPUT: {REA: {PROB: 0.5}}\nSOLVER: {OPT: Adam}\n"
    )
    with pytest.raises(ValueError, match=r"^5 options cannot be read; this is a config file of fast-reid") as caught:
        load_config(tmp_path / "theirs.yml")
    assert "INPUT.REA.PROB: unknown config key; did you mean INPUT.RE_PROB?" in str(caught.value)


def test_a_file_with_text_prompts_says_that_they_are_not_trained(tmp_path):
    (tmp_path / "theirs.yml").write_text("SOLVER: {STAGE1: {BASE_LR: 0.1, MAX_EPOCHS: 60}}\n")
    with pytest.raises(ValueError, match="CLIP-ReID with text prompts"):
        load_config(tmp_path / "theirs.yml")


def test_the_names_here_of_other_projects_options_exist():
    assert set(FAST_REID.values()) <= set(OPTIONS)


@pytest.mark.parametrize(("epochs", "expected"), [(1, 0), (3, 0), (5, 1), (6, 5)])
def test_a_short_run_has_a_short_warmup_unless_one_is_chosen(epochs, expected):
    cfg = load_config(None, ["SOLVER.MAX_EPOCHS", str(epochs)])
    warmup = cfg.SOLVER.WARMUP_EPOCHS
    assert warmup == expected
