"""Self-supervised pre-training: losses, teacher, masks and schedules against naive twins and lightly's own; exact resume; the saved file."""

from __future__ import annotations

import csv
import math
import os
import signal

import numpy as np
import pytest
import torch
from helpers import rows
from published_trees import draw_tree
from torch.nn import functional as F

from vitreid.common.errors import MissingPackageError, UserError
from vitreid.configs import load_config, shipped_recipes
from vitreid.datasets import build_data, build_raw_loader
from vitreid.model import ModelSpec, ReidModel, build_model, load_deploy
from vitreid.processor import Stopped, train
from vitreid.processor.pretraining import self_distillation
from vitreid.processor.pretraining.block_masks import draw_masks
from vitreid.processor.pretraining.pretraining_schedule import TeacherSchedule
from vitreid.processor.pretraining.pretraining_trainer import PretrainingTrainer
from vitreid.processor.pretraining.projection_head import ProjectionHead
from vitreid.processor.pretraining.self_distillation import Branch, SelfDistillation, Views, entropy
from vitreid.processor.runs.run_folder import RunFolder

pytest.importorskip("lightly", reason='needs the extra: pip install "vitreid[ssl]"')

from lightly.models.modules.heads import DINOProjectionHead

from vitreid.processor.pretraining.build_pretraining import build_pretraining, build_self_distillation, pretrain

SHORT = [
    *("PRETRAIN.LOCAL_CROPS", "2", "PRETRAIN.LOCAL_SIZE", "(32, 16)", "PRETRAIN.PROTOTYPES", "24"),
    *("PRETRAIN.HIDDEN_DIM", "16", "PRETRAIN.BOTTLENECK_DIM", "8", "PRETRAIN.PROBE_PERIOD", "0"),
    *(
        "SOLVER.OPTIMIZER_NAME",
        "AdamW",
        "SOLVER.MAX_EPOCHS",
        "4",
        "SOLVER.BASE_LR",
        "0.001",
        "MODEL.DROP_PATH",
        "0.2",
        "SOLVER.GRAD_CLIP",
        "3",
    ),
]
FILE = "pretrained.safetensors"


@pytest.fixture
def words(tiny):
    return [*tiny, *SHORT]


def small_module(method="ibot", **options):
    torch.manual_seed(0)
    spec = ModelSpec("vit_tiny_patch16_224", img_size=(64, 32), embed_dim=32, depth=2, num_heads=2)
    return SelfDistillation(Branch(ReidModel(spec), ProjectionHead(32, 16, 8, 24)), method, **options)


def some_views(module, number=3):
    torch.manual_seed(1)
    grid = module.grid((64, 32))
    mask = draw_masks(2 * number, grid, 0.5, (0.2, 0.5), np.random.default_rng(0)) if module.is_masking else None
    return Views(torch.randn(2 * number, 3, 64, 32), torch.randn(2 * number, 3, 32, 16), mask)


def tensors_of(folder):
    return load_deploy(folder / FILE)[0].state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- head, losses, teacher ------------------------------------------------------------------------------------------


def test_the_head_is_lightlys_with_the_same_weights():
    ours, theirs = ProjectionHead(12, 16, 8, 20), DINOProjectionHead(12, 16, 8, 20)
    linears = [layer for layer in theirs.layers if isinstance(layer, torch.nn.Linear)]
    for mine, layer in zip(ours.layers[::2], linears, strict=True):
        mine.load_state_dict(layer.state_dict())
    ours.prototypes.data = theirs.last_layer.weight_v.data.clone()
    features = torch.randn(5, 12)
    torch.testing.assert_close(ours(features), theirs(features))


def naive_losses(module, views, temp):
    """The papers' sums, one output at a time; the centres are 0."""
    teacher, student, size = module.teacher, module.student, len(views.large) // 2
    target, seen = teacher(views.large), student(views.large, views.mask)
    targets = [(teacher.head(target.pooled[i : i + 1])[0] / temp).softmax(0) for i in range(2 * size)]
    pooled = [*seen.pooled, *student(views.small).pooled]
    outputs = [F.log_softmax(student.head(one[None])[0] / 0.1, 0) for one in pooled]
    pairs = [(t, s) for t in range(2) for s in range(len(outputs) // size) if t != s]
    sums = [-(targets[t * size + i] * outputs[s * size + i]).sum() for t, s in pairs for i in range(size)]
    crops, patches = sum(sums) / len(sums), 0.0
    for image in range(2 * size) if views.mask is not None else ():
        hidden = views.mask[image].flatten().nonzero().flatten().tolist()
        for token in hidden:
            wanted = (teacher.head(target.patches[image, token][None])[0] / temp).softmax(0)
            given = F.log_softmax(student.head(seen.patches[image, token][None])[0] / 0.1, 0)
            patches = patches - (wanted * given).sum() / len(hidden) / (2 * size)
    return {"crops": crops, "patches": patches}


@pytest.mark.parametrize("method", ["dino", "ibot"])
def test_the_losses_are_those_of_the_papers(method):
    module = small_module(method, patch_weight=0.5)
    module.student.head.layers[0].weight.data += 0.1 * torch.randn(16, 32)  # another output than the teacher's
    views = some_views(module)
    terms, _ = module.eval()(views, 0.04)
    expected = naive_losses(module, views, 0.04)
    torch.testing.assert_close(terms["crops"], expected["crops"], rtol=1e-4, atol=1e-5)
    assert ("patches" in terms) == (method == "ibot")
    if method == "ibot":
        torch.testing.assert_close(terms["patches"], 0.5 * expected["patches"], rtol=1e-4, atol=1e-5)


def test_losses_and_outputs_have_32_bits_under_autocast():
    module = small_module()
    with torch.autocast("cpu", torch.bfloat16):
        terms, figures = module(some_views(module), 0.04)
    for value in (*terms.values(), *figures.values()):
        assert value.dtype == torch.float32 and value.bfloat16() != value


def test_only_the_student_gets_gradients_and_the_centre_moves():
    module = small_module(center_momentum=0.9)
    terms, _ = module(some_views(module), 0.04)
    sum(terms.values()).backward()
    assert all(parameter.grad is None for parameter in module.teacher.parameters())
    with_gradient = {name for name, parameter in module.student.named_parameters() if parameter.grad is not None}
    assert with_gradient == {name for name, _ in module.trained_parameters()} and "mask_token" in with_gradient
    with torch.no_grad():
        targets = module.teacher.head(module.teacher(some_views(module).large).pooled)
    torch.testing.assert_close(module.crop_loss.center.flatten(), 0.1 * targets.mean(0), rtol=1e-4, atol=1e-6)


def test_the_teacher_is_the_moving_average_of_the_student():
    module = small_module()
    before = {name: value.clone() for name, value in module.teacher.named_parameters()}
    for parameter in module.student.parameters():
        parameter.data += torch.randn_like(parameter)
    module.update_teacher(0.9)
    students = dict(module.student.named_parameters())
    for name, value in module.teacher.named_parameters():
        torch.testing.assert_close(value, 0.9 * before[name] + 0.1 * students[name])


def test_the_teacher_has_no_random_depth_and_its_batch_norms_follow_large_crops():
    spec = ModelSpec(
        "vit_tiny_patch16_224", (64, 32), stem="resconv", embed_dim=32, depth=2, num_heads=2, drop_path=0.5
    )
    module = SelfDistillation(Branch(ReidModel(spec), ProjectionHead(32, 16, 8, 24)), "dino").train()
    modes = {type(part).__name__: part.training for part in module.teacher.model.backbone.modules()}
    assert modes["BatchNorm2d"] and not modes["DropPath"]
    statistics = module.teacher.model.backbone.net.patch_embed.body[0][1].running_mean.clone()
    module(some_views(module), 0.04)
    assert not torch.equal(statistics, module.teacher.model.backbone.net.patch_embed.body[0][1].running_mean)


def test_figures_show_a_collapse():
    shares = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
    assert entropy(shares).tolist() == pytest.approx([0, math.log(4)])
    module = small_module("dino")
    _, healthy = module(some_views(module), 0.04)
    for block in module.teacher.model.backbone.net.blocks:  # every image gets the class token
        block.attn.proj.weight.data.zero_()
    _, collapsed = module(some_views(module), 0.04)
    assert healthy["feature_std"] > 0.01 and collapsed["feature_std"] < 1e-3
    assert collapsed["batch_entropy"] == pytest.approx(float(collapsed["teacher_entropy"]), abs=1e-4)


# --- masks and schedules --------------------------------------------------------------------------------------------


def test_masks_have_the_asked_share_of_crops_and_tokens():
    masks = draw_masks(200, (16, 8), 0.5, (0.1, 0.5), np.random.default_rng(0))
    counts = masks.flatten(1).sum(1)
    assert (counts > 0).sum() == 100
    masked = counts[counts > 0].float() / 128
    assert masked.min() >= 0.09 and masked.max() <= 0.51 and 0.25 < masked.mean() < 0.35


def test_at_least_one_token_of_one_crop_is_masked():
    assert draw_masks(2, (2, 1), 0.01, (0.01, 0.01), np.random.default_rng(0)).sum() == 1


def test_masks_are_blocks():
    """More neighbours of masked tokens are masked than by chance."""
    masks = draw_masks(200, (16, 8), 1.0, (0.3, 0.3), np.random.default_rng(0)).float()
    below = masks[:, 1:] * masks[:, :-1]
    assert below.mean() > 1.5 * 0.3**2


def test_schedules_start_and_end_as_dinos():
    schedule = TeacherSchedule(100, 0.996, 0.04, 0.4, warmup_temp=0.04, temp=0.07, warmup_temp_epochs=30)
    assert [schedule.momentum_at(at) for at in (0, 100)] == [0.996, 1.0]
    assert [schedule.weight_decay_at(at) for at in (0, 50, 100)] == pytest.approx([0.04, 0.22, 0.4])
    assert [schedule.temp_at(at) for at in (0, 15, 30, 99)] == pytest.approx([0.04, 0.055, 0.07, 0.07])


# --- runs -----------------------------------------------------------------------------------------------------------


def stop_after(monkeypatch, steps):
    """Send SIGTERM to this process after so many steps."""
    step, done = PretrainingTrainer._step, []

    def counted(self, images):
        step(self, images)
        done.append(1)
        if len(done) == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(PretrainingTrainer, "_step", counted)


@pytest.mark.parametrize("steps", [5, 6], ids=["inside an epoch", "after two epochs"])  # an epoch has 3
def test_a_stopped_run_resumes_exactly(words, tmp_path, monkeypatch, steps):
    whole = pretrain(load_config(None, [*words, "OUTPUT_DIR", str(tmp_path / "whole")]))
    cfg = load_config(None, words)
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(Stopped):
            pretrain(cfg)
    torch.manual_seed(99)  # the draws continue from the checkpoint
    folder = pretrain(cfg, resume="auto")
    assert same(tensors_of(whole), tensors_of(folder))
    figures = ("loss", "crops", "patches", "feature_std", "batch_entropy", "weight_decay")
    for expected, found in zip(rows(whole), rows(folder), strict=True):
        assert {name: expected[name] for name in figures} == {name: found[name] for name in figures}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [name for name, _ in shipped_recipes() if "/ssl_" in name])
def test_a_shipped_recipe_takes_a_step(recipe, people, tmp_path):
    """With its own model, views and head; only the batch is small."""
    words = ["DATASETS.ROOT_DIR", str(people / "synthetic"), "SOLVER.IMS_PER_BATCH", "2", "MODEL.DEVICE", "cpu"]
    cfg = load_config(recipe, [*words, "PRETRAIN.PROBE_PERIOD", "0", "OUTPUT_DIR", str(tmp_path)])
    folder = RunFolder(tmp_path)
    trainer = build_pretraining(cfg, folder).trainer
    folder.close()
    trainer.progress = trainer.progress.of_epoch(1)
    trainer._step(next(iter(trainer.loader)).images)
    assert 0 < trainer.progress.means.read()["loss"] < 2 * math.log(cfg.PRETRAIN.PROTOTYPES) + 1


def test_large_crops_may_be_smaller_than_the_images(words):
    """The saved model takes the images."""
    folder = pretrain(load_config(None, [*words, "SOLVER.MAX_EPOCHS", "1", "PRETRAIN.GLOBAL_SIZE", "(48, 32)"]))
    assert load_deploy(folder / FILE)[0].embed(torch.randn(2, 3, 64, 32)).shape == (2, 32)
    with pytest.raises(UserError, match="smaller than one patch"):
        pretrain(load_config(None, [*words, "PRETRAIN.GLOBAL_SIZE", "(8, 8)"]), overwrite=True)


def test_a_killed_run_resumes_from_a_save_inside_the_epoch(words, tmp_path, monkeypatch):
    whole = pretrain(load_config(None, [*words, "OUTPUT_DIR", str(tmp_path / "whole")]))
    cfg = load_config(None, [*words, "SOLVER.CHECKPOINT_STEPS", "1"])
    step = PretrainingTrainer._step

    def die(self, images):
        if (self.progress.epoch, self.progress.batches) == (2, 2):
            raise OSError("as if killed")
        step(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainingTrainer, "_step", die)
        with pytest.raises(OSError, match="killed"):
            pretrain(cfg)
    assert same(tensors_of(whole), tensors_of(pretrain(cfg, resume="auto")))


def test_a_run_resumes_without_its_initial_weights_and_remembers_them(words, tmp_path, caplog):
    first = pretrain(load_config(None, [*words, "SOLVER.MAX_EPOCHS", "1", "OUTPUT_DIR", str(tmp_path / "first")]))
    start = (first / FILE).rename(tmp_path / "start.safetensors")
    given = [*words, "MODEL.PRETRAIN_CHOICE", "self", "MODEL.PRETRAIN_PATH", str(start)]
    pretrain(load_config(None, [*given, "SOLVER.MAX_EPOCHS", "1"]))
    start.unlink()
    folder = pretrain(load_config(None, [*given, "SOLVER.MAX_EPOCHS", "2", "SOLVER.BASE_LR", "0.002"]), resume="auto")
    provenance = load_deploy(folder / FILE)[1]["provenance"]
    assert [parent["name"] for parent in provenance["parents"]] == ["start.safetensors"] and len(
        provenance["commands"]
    ) == 2
    assert "SOLVER.BASE_LR was 0.001, is now 0.002" in caplog.text


def test_resume_of_a_finished_run_does_nothing(words, caplog):
    cfg = load_config(None, [*words, "SOLVER.MAX_EPOCHS", "1"])
    before = tensors_of(pretrain(cfg))
    assert same(before, tensors_of(pretrain(cfg, resume="auto")))
    assert "nothing left" in caplog.text


def test_the_loss_falls_and_the_table_has_a_row_per_epoch(words):
    folder = pretrain(load_config(None, [*words, "SOLVER.MAX_EPOCHS", "6", "SOLVER.BASE_LR", "0.003"]))
    with (folder / "pretraining.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["epoch"] for row in table] == ["1", "2", "3", "4", "5", "6"]
    assert float(table[-1]["loss"]) < float(table[0]["loss"])
    assert all(float(row["feature_std"]) > 0 and float(row["images_per_second"]) > 0 for row in table)
    assert len(rows(folder)) == 6


def test_the_prototypes_do_not_change_in_the_first_epoch(words):
    cfg = load_config(None, [*words, "SOLVER.MAX_EPOCHS", "1"])
    folder = pretrain(cfg)
    state = torch.load(folder / "last.pth", weights_only=True)["trainer"]["module"]
    assert torch.equal(state["student.head.prototypes"], state["teacher.head.prototypes"])
    assert not torch.equal(state["student.mask_token"], state["teacher.mask_token"])


@pytest.mark.parametrize("choice", ["self", "imagenet"])
def test_a_training_starts_from_the_saved_teacher(words, tiny, choice):
    """Its name is not needed, and its embeddings are the teacher's."""
    folder = pretrain(load_config(None, [*words, "SOLVER.MAX_EPOCHS", "1"]))
    given = ["MODEL.PRETRAIN_CHOICE", choice, "MODEL.PRETRAIN_PATH", str(folder / FILE)]
    model = build_model(load_config(None, [*tiny, *given]), ("c1",)).eval()
    teacher, about = load_deploy(folder / FILE)
    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        assert torch.equal(model.embed(images), teacher.embed(images))
    state = torch.load(folder / "last.pth", weights_only=True)["trainer"]["module"]
    backbone = {name: value for name, value in teacher.state_dict().items() if name.startswith("backbone.")}
    assert all(torch.equal(value, state[f"teacher.model.{name}"]) for name, value in backbone.items())
    assert about["labels"] == {} and "PRETRAIN" in about["config"]
    run = [
        *tiny,
        *given,
        "OUTPUT_DIR",
        str(folder.parent / "tuned"),
        "SOLVER.MAX_EPOCHS",
        "1",
        "MODEL.SIE_CAMERA",
        "True",
    ]
    assert train(load_config(None, [*run, "MODEL.JPM", "True"])).mAP > 0


def test_the_teacher_is_evaluated_on_validation_people(words):
    folder = pretrain(load_config(None, [*words, "PRETRAIN.PROBE_PERIOD", "3", "DATASETS.VAL_IDS", "3"]))
    assert ["mAP" in row for row in rows(folder)] == [False, False, True, True]  # every third epoch, and the last


def test_crops_need_no_labels(words, people, tmp_path):
    crops = ["DATASETS.NAMES", "crops", "DATASETS.ROOT_DIR", str(people / "synthetic" / "bounding_box_train")]
    labelled = pretrain(load_config(None, [*words, "SOLVER.MAX_EPOCHS", "1", "OUTPUT_DIR", str(tmp_path / "labelled")]))
    unlabelled = pretrain(load_config(None, [*words, *crops, "SOLVER.MAX_EPOCHS", "1"]))
    assert same(tensors_of(labelled), tensors_of(unlabelled)), "the same images in the same order: labels do not count"


def test_frames_of_tracklets_are_images(words, tmp_path):
    draw_tree(tmp_path, "mars")
    cfg = load_config(
        None, [*words, "DATASETS.NAMES", "mars", "DATASETS.ROOT_DIR", str(tmp_path), "SOLVER.MAX_EPOCHS", "1"]
    )
    frames = sum(len(record.frames) for record in build_data(cfg, unlabelled=True).train)
    assert frames == len(build_raw_loader(cfg, build_data(cfg, unlabelled=True)).records) > 16
    assert (pretrain(cfg) / FILE).exists()


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [("MODEL.JPM", "True"), ("MODEL.SIE_CAMERA", "True"), ("MODEL.PROJECTION", "8"), ("MODEL.NAME", "osnet_x0_25")],
)
def test_parts_that_are_not_trained_are_refused(words, key, value):
    sizes = (
        ("MODEL.EMBED_DIM", "0", "MODEL.DEPTH", "0", "MODEL.NUM_HEADS", "0", "MODEL.DROP_PATH", "0")
        if key == "MODEL.NAME"
        else ()
    )
    with pytest.raises(UserError, match=key):
        build_self_distillation(load_config(None, [*words, *sizes, key, value]))


@pytest.mark.parametrize(
    "words_for_training", [("SOLVER.OPTIMIZER_NAME", "SGD"), ("SOLVER.EMA", "0.99"), ("SOLVER.ACCUMULATE", "2")]
)
def test_options_of_training_that_would_be_ignored_are_refused(words, words_for_training):
    key, _ = words_for_training
    with pytest.raises(UserError, match=rf"{key}.*vitreid train.*vitreid pretrain"):
        pretrain(load_config(None, [*words, *words_for_training]))


def test_checkpoints_of_training_and_pretraining_are_not_mistaken(words, tiny, tmp_path):
    folder = pretrain(load_config(None, [*words, "SOLVER.MAX_EPOCHS", "1"]))
    other = ["OUTPUT_DIR", str(tmp_path / "other")]
    with pytest.raises(UserError, match=r"no.*last\.pth|not a last\.pth"):
        train(load_config(None, [*tiny, *other]), str(folder / "last.pth"))
    train(load_config(None, [*tiny, *other, "SOLVER.MAX_EPOCHS", "1"]))
    with pytest.raises(UserError, match=r"not a last\.pth"):
        pretrain(load_config(None, [*words, *other]), resume="auto")


def test_a_resume_with_other_images_or_another_head_is_refused(words, people):
    pretrain(load_config(None, [*words, "SOLVER.MAX_EPOCHS", "1"]))
    with pytest.raises(UserError, match="other images"):
        pretrain(load_config(None, [*words, "DATASETS.VAL_IDS", "2"]), resume="auto")
    with pytest.raises(UserError, match="does not fit"):
        pretrain(load_config(None, [*words, "PRETRAIN.PROTOTYPES", "12"]), resume="auto")


def test_an_earlier_run_is_replaced_only_if_asked(words):
    cfg = load_config(None, [*words, "SOLVER.MAX_EPOCHS", "1"])
    pretrain(cfg)
    with pytest.raises(FileExistsError, match="--overwrite"):
        pretrain(cfg)
    assert pretrain(cfg, overwrite=True).joinpath(FILE).exists()
    RunFolder(cfg.OUTPUT_DIR).close()  # not locked any more


def test_without_lightly_the_message_names_the_extra(monkeypatch):
    monkeypatch.setattr(self_distillation, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"vitreid\[ssl\]"):
        small_module()
