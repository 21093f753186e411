"""Recipes, overrides, legacy keys, and the errors people make in them."""

import logging
from pathlib import Path

import pytest

import vitreid.configs
from vitreid.configs import OPTIONS, dump_config, get_defaults, load_config, make_config, parse_config, shipped_recipes

RECIPES = sorted(Path(vitreid.configs.__file__).parent.glob("*/*.yml"))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_recipe_loads(recipe):
    cfg = load_config(recipe)
    assert f"logs/{recipe.parent.name}_{recipe.stem}" == cfg.OUTPUT_DIR


@pytest.mark.parametrize("folder", ["market", "duke", "msmt17"])
def test_the_papers_seven_recipes_are_shipped_for_each_data_set(folder):
    names = {path.stem for path in RECIPES if path.parent.name == folder}
    assert names >= {
        "vit_base",
        "vit_sie",
        "vit_jpm",
        "vit_transreid",
        "vit_transreid_stride",
        "vit_transreid_384",
        "deit_transreid_stride",
    }


def test_defaults_are_the_published_recipe():
    """He et al., ICCV 2021, section 4.2, and the released YAML files."""
    cfg = get_defaults()
    assert (cfg.INPUT.SIZE_TRAIN, cfg.INPUT.PROB, cfg.INPUT.PADDING, cfg.INPUT.RE_PROB) == ((256, 128), 0.5, 10, 0.5)
    assert (cfg.SOLVER.OPTIMIZER_NAME, cfg.SOLVER.MOMENTUM, cfg.SOLVER.BASE_LR, cfg.SOLVER.BIAS_LR_FACTOR) == (
        "SGD",
        0.9,
        0.008,
        2,
    )
    assert (cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.MAX_EPOCHS, cfg.SOLVER.WARMUP_EPOCHS, cfg.SOLVER.SCHEDULE) == (
        1e-4,
        120,
        5,
        "cosine",
    )
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE) == (64, 4)
    assert (cfg.MODEL.DROP_PATH, cfg.MODEL.SIE_COE, cfg.LOSS.SOFT_MARGIN, cfg.LOSS.LABEL_SMOOTH) == (
        0.1,
        3.0,
        True,
        0.0,
    )
    assert (cfg.MODEL.SHIFT_NUM, cfg.MODEL.SHUFFLE_GROUP, cfg.MODEL.NUM_PARTS) == (5, 2, 4)


def test_every_option_has_a_meaning_and_accepts_its_own_default():
    for key, option in OPTIONS.items():
        assert option.help
        assert option.accept(key, option.default) == option.default


def test_base_recipe_is_read_first_and_overrides_win(tmp_path):
    write(tmp_path / "base.yml", "SOLVER: {BASE_LR: 0.1, MAX_EPOCHS: 50}")
    recipe = write(tmp_path / "mine.yml", "_BASE_: base.yml\nSOLVER: {BASE_LR: 0.2}")
    cfg = load_config(recipe, ["SOLVER.MAX_EPOCHS", "60"])
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_EPOCHS) == (0.2, 60)


def test_a_base_that_leads_back_to_itself_is_an_error(tmp_path):
    write(tmp_path / "a.yml", "_BASE_: b.yml")
    write(tmp_path / "b.yml", "_BASE_: a.yml")
    with pytest.raises(ValueError, match=r"_BASE_.*a\.yml -> b\.yml"):
        load_config(tmp_path / "a.yml")


def test_a_dumped_config_reads_back_the_same():
    cfg = make_config(
        {"SOLVER.STEPS": (10, 20), "DATASETS.NAMES": ["market1501", "dukemtmc"], "SOLVER.WEIGHT_DECAY": 1e-7}
    )
    assert parse_config(dump_config(cfg)) == cfg


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path):
    assert load_config(write(tmp_path / "r.yml", "SOLVER: {WEIGHT_DECAY: 1e-4}")).SOLVER.WEIGHT_DECAY == 1e-4


WRONG = {
    "typo in a key": (["SOLVER.BASE_LRR", "1"], r"SOLVER\.BASE_LRR: .*SOLVER\.BASE_LR\b"),
    "key in the wrong section": (["MODEL.BASE_LR", "1"], r"MODEL\.BASE_LR: .*SOLVER\.BASE_LR"),
    "text for a number": (["SOLVER.BASE_LR", "fast"], r"SOLVER\.BASE_LR: .*float.*'fast'"),
    "number for a switch": (["MODEL.JPM", "1"], r"MODEL\.JPM: .*bool.*int 1"),
    "fraction for a count": (["SOLVER.MAX_EPOCHS", "1.5"], r"SOLVER\.MAX_EPOCHS: .*int.*1\.5"),
    "frozen parts": (["SOLVER.HEAD_EPOCHS", "2", "SOLVER.FSDP", "True"], r"SOLVER\.HEAD_EPOCHS: 2 .*SOLVER\.FSDP"),
    "a head with nothing to learn": (["SOLVER.HEAD_EPOCHS", "2", "LOSS.ID", "none"], r"SOLVER\.HEAD_EPOCHS: .*\b0\b"),
    "one image": (
        ["SOLVER.IMS_PER_BATCH", "1", "DATALOADER.SAMPLER", "shuffle", "LOSS.METRIC", "none"],
        r"SOLVER\.IMS_PER_BATCH: .*\b2 .*\b1\b",
    ),
    "unknown choice": (["DATALOADER.SAMPLER", "pkk"], r"DATALOADER\.SAMPLER: .*'pkk'.*pk, shuffle"),
    "probability above 1": (["INPUT.RE_PROB", "50"], r"INPUT\.RE_PROB: 50.*\b1\b"),
    "negative rate": (["SOLVER.BASE_LR", "-0.1"], r"SOLVER\.BASE_LR: -0\.1 .*\b0\b"),
    "one number for a size": (["INPUT.SIZE_TRAIN", "256"], r"INPUT\.SIZE_TRAIN: .*\b2 values.*\b1\b"),
    "batch not divisible by K": (["SOLVER.IMS_PER_BATCH", "30"], r"SOLVER\.IMS_PER_BATCH: 30 .*28 or 32"),
    "stride larger than the patch": (["MODEL.STRIDE_SIZE", "(20, 20)"], r"MODEL\.STRIDE_SIZE: .*the patch"),
    "two sizes for a ViT": (["INPUT.SIZE_TEST", "(384, 128)"], r"INPUT\.SIZE_TEST: .*INPUT\.SIZE_TRAIN"),
    "warm-up longer than the run": (
        ["SOLVER.MAX_EPOCHS", "3", "SOLVER.WARMUP_EPOCHS", "5"],
        r"SOLVER\.WARMUP_EPOCHS: 5 .*SOLVER\.MAX_EPOCHS",
    ),
    "one identity per batch": (["SOLVER.IMS_PER_BATCH", "4"], r"SOLVER\.IMS_PER_BATCH: 4 .*one identity"),
    "a rate that is no number": (["SOLVER.BASE_LR", "nan"], r"SOLVER\.BASE_LR: nan "),
    "nothing to train on": (["LOSS.ID", "none", "LOSS.METRIC", "none"], "nothing to train on"),
    "heads that do not divide": (
        ["MODEL.EMBED_DIM", "100", "MODEL.NUM_HEADS", "3"],
        r"MODEL\.EMBED_DIM: 100 .*MODEL\.NUM_HEADS 3",
    ),
    "own weights without a path": (["MODEL.PRETRAIN_CHOICE", "self"], r"MODEL\.PRETRAIN_PATH: .*\bself\b"),
    "manifest without its file": (["DATASETS.NAMES", "manifest"], r"DATASETS\.MANIFEST: .*CSV file"),
    "key without a value": (["SOLVER.BASE_LR"], r"'SOLVER\.BASE_LR'"),
    "triplet on single images": (["DATALOADER.NUM_INSTANCE", "1"], r"DATALOADER\.NUM_INSTANCE: .*triplet.*\b2\b"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_option_is_named_with_what_is_accepted(case):
    overrides, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        load_config(None, overrides)


@pytest.mark.parametrize("name", ["market/vit_base", "market/vit_base.yml", "configs/market/vit_base.yml"])
def test_shipped_recipes_are_found_by_name_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(name).DATASETS.NAMES == ("market1501",)
    base = write(tmp_path / "mine.yml", f"_BASE_: {name}\nSOLVER: {{MAX_EPOCHS: 7, WARMUP_EPOCHS: 1}}")
    assert (load_config(base).DATASETS.NAMES, load_config("mine").SOLVER.MAX_EPOCHS) == (("market1501",), 7)


def test_the_users_own_file_wins_over_a_shipped_recipe(tmp_path, monkeypatch):
    (tmp_path / "market").mkdir()
    write(tmp_path / "market" / "vit_base.yml", "DATASETS: {NAMES: [msmt17]}")
    monkeypatch.chdir(tmp_path)
    assert load_config("market/vit_base.yml").DATASETS.NAMES == ("msmt17",)
    assert load_config("configs/market/vit_base.yml").DATASETS.NAMES == ("market1501",)


def test_every_shipped_recipe_has_a_description_and_loads_by_its_name():
    recipes = shipped_recipes()
    assert "market/vit_base" in dict(recipes)
    for name, description in recipes:
        assert description and not description.startswith("#") and load_config(name).DATASETS.NAMES


def test_unknown_recipes_list_the_closest_ones(tmp_path):
    for name in ("market/vit_bass", "configs/market/vit_bass.yml"):
        with pytest.raises(FileNotFoundError, match=r"vit_bass.*market/vit_base"):
            load_config(name)
    with pytest.raises(FileNotFoundError, match=r"zzz.*market/vit_base"):
        load_config("zzz")
    with pytest.raises(FileNotFoundError, match=r"_BASE_.*mine\.yml.*duke/vit_sie"):
        load_config(write(tmp_path / "mine.yml", "_BASE_: duke/vit_sieh"))
    with pytest.raises(ValueError, match=rf"{tmp_path}.* a folder"):
        load_config(tmp_path)


def test_broken_yaml_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"broken\.yml.*YAML"):
        load_config(write(tmp_path / "broken.yml", "MODEL: [1"))


def test_broken_yaml_is_one_line_that_names_file_and_line(tmp_path):
    text = "MODEL:\n  NAME: x\n INTERP"
    for read in (
        lambda: load_config(write(tmp_path / "broken.yml", text)),
        lambda: parse_config(text, (), "broken.yml"),
    ):
        with pytest.raises(ValueError, match=r"broken\.yml.*line 3, column 2") as caught:
            read()
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"stored config.*'MODEL:'.*list"):
        parse_config("- a")


ORIGINAL = """
MODEL:
  PRETRAIN_CHOICE: 'imagenet'
  METRIC_LOSS_TYPE: 'triplet'
  IF_LABELSMOOTH: 'off'
  IF_WITH_CENTER: 'no'
  NAME: 'transformer'
  NO_MARGIN: True
  DEVICE_ID: ('4')
  TRANSFORMER_TYPE: 'vit_base_patch16_224_TransReID'
  STRIDE_SIZE: [12, 12]
  SIE_CAMERA: True
  JPM: True
  DEVIDE_LENGTH: 3
INPUT: {SIZE_TRAIN: [256, 128], SIZE_TEST: [256, 128], PIXEL_MEAN: [0.5, 0.5, 0.5], PIXEL_STD: [0.5, 0.5, 0.5]}
DATASETS: {NAMES: ('market1501'), ROOT_DIR: ('../../data')}
DATALOADER: {SAMPLER: 'softmax_triplet', NUM_INSTANCE: 4}
SOLVER: {OPTIMIZER_NAME: 'SGD', WARMUP_METHOD: 'linear', LARGE_FC_LR: False, WEIGHT_DECAY: 1e-4, BIAS_LR_FACTOR: 2}
TEST: {EVAL: True, RE_RANKING: True, NECK_FEAT: 'before', FEAT_NORM: 'yes'}
"""


def test_a_file_of_the_original_transreid_loads_unchanged(tmp_path):
    cfg = load_config(write(tmp_path / "original.yml", ORIGINAL))
    assert cfg.MODEL.NAME.startswith("vit_base_patch16_224")
    assert (cfg.LOSS.METRIC, cfg.LOSS.SOFT_MARGIN, cfg.LOSS.LABEL_SMOOTH, cfg.LOSS.CENTER_WEIGHT) == (
        "triplet",
        True,
        0.0,
        0.0,
    )
    assert (cfg.MODEL.NUM_PARTS, cfg.MODEL.STRIDE_SIZE, cfg.DATALOADER.SAMPLER) == (3, (12, 12), "pk")
    assert (cfg.DATASETS.NAMES, cfg.DATASETS.ROOT_DIR) == (("market1501",), "../../data")
    assert (cfg.TEST.FEAT_NORM, cfg.TEST.RERANK) == (True, "k-reciprocal")
    assert cfg.SOLVER.BASE_LR == 3e-4, "where the original's file is silent, the original's default holds"


def test_each_replaced_key_is_reported_once(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        load_config(write(tmp_path / "original.yml", ORIGINAL))
    messages = [record.getMessage() for record in caplog.records]
    assert sum("MODEL.DEVIDE_LENGTH 3 -> MODEL.NUM_PARTS 3" in message for message in messages) == 1
    assert sum("MODEL.DEVICE_ID" in message for message in messages) == 1


def test_an_override_wins_over_the_originals_backbone(tmp_path):
    cfg = load_config(write(tmp_path / "original.yml", ORIGINAL), ["MODEL.NAME", "vit_small_patch16_224"])
    assert cfg.MODEL.NAME == "vit_small_patch16_224"


def test_the_originals_backbone_as_an_override_changes_the_backbone_alone():
    cfg = load_config(None, ["MODEL.TRANSFORMER_TYPE", "deit_small_patch16_224_TransReID"])
    assert (cfg.MODEL.NAME, cfg.SOLVER.OPTIMIZER_NAME) == ("deit_small_patch16_224", "SGD")


def test_the_originals_plain_sampler_means_the_id_loss_alone():
    assert make_config({"DATALOADER.SAMPLER": "softmax"}).LOSS.METRIC == "none"


def test_a_slip_in_the_originals_switch_is_an_error():
    with pytest.raises(ValueError, match=r"^MODEL\.IF_LABELSMOOTH.*'onn'.*on, yes"):
        make_config({"MODEL.IF_LABELSMOOTH": "onn"})


def test_a_section_misspelt_in_one_of_the_originals_files_is_understood():
    assert make_config({"tMODEL.SIE_CAMERA": True}).MODEL.SIE_CAMERA


def test_models_with_small_patches_keep_their_own_stride():
    """The stride option is for ViTs; Swin's patch of 4 pixels is none of its business."""
    assert make_config({"MODEL.NAME": "swin_tiny_patch4_window7_224"}).MODEL.STRIDE_SIZE == (16, 16)


def test_feat_norm_no_of_the_original_means_no(tmp_path):
    """The original read 'no' as true (any text is)."""
    assert make_config({"TEST.FEAT_NORM": "no"}).TEST.FEAT_NORM is False


def test_options_that_may_differ_between_machines_or_change_on_resume_are_these():
    """The flags on the options replaced two lists of prefixes; a change here is a change of behaviour."""
    assert [key for key, option in OPTIONS.items() if option.per_machine] == [
        "MODEL.PRETRAIN_PATH",
        "LOSS.DISTILL",
        "DATASETS.ROOT_DIR",
        "DATASETS.MANIFEST",
        "DATASETS.DISTRACTORS",
        "DATALOADER.NUM_WORKERS",
        "DATALOADER.CACHE",
        "DATALOADER.CACHE_SHARE",
        "UNSUPERVISED.SOURCE_DIR",
        "OUTPUT_DIR",
    ]
    resumable = [key for key, option in OPTIONS.items() if option.resumable]
    assert [key for key in resumable if not key.startswith("TEST.")] == [
        "MODEL.DEVICE",
        "DATASETS.ROOT_DIR",
        "DATALOADER.NUM_WORKERS",
        "DATALOADER.CACHE",
        "DATALOADER.CACHE_SHARE",
        "UNSUPERVISED.SOURCE_DIR",
        "UNSUPERVISED.PATIENCE",
        "PRETRAIN.PROBE_PERIOD",
        "SOLVER.LOG_PERIOD",
        "SOLVER.CHECKPOINT_PERIOD",
        "SOLVER.CHECKPOINT_STEPS",
        "SOLVER.KEEP_LAST",
        "SOLVER.SKIP_NONFINITE",
        "SOLVER.COMPILE",
        "SOLVER.PATIENCE",
        "LOG.TRACKERS",
        "LOG.PROJECT",
        "OUTPUT_DIR",
    ]
    assert {key for key in resumable if key.startswith("TEST.")} == {key for key in OPTIONS if key.startswith("TEST.")}
