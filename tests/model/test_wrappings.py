"""However a state dict is wrapped, the same weights are found: keys of dicts, prefixes of names, folders, averaged copies."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from foreign_files import filled, linear
from safetensors.torch import save_file
from torch import Tensor
from torchvision import models

from vitreid.model import ModelSpec, ReidModel, load_weights
from vitreid.model.weights.load_weights import load_state
from vitreid.model.weights.pretrained import load_initial
from vitreid.model.weights.read import WeightsFile, read_weights
from vitreid.model.weights.wrappings import find_state

State = dict[str, Tensor]
SPEC = ModelSpec("vit_tiny_patch16_224", (64, 32), embed_dim=16, depth=2, num_heads=2)


@cache
def vit(seed: int = 0) -> State:
    torch.manual_seed(seed)
    options = {"img_size": (64, 32), "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}
    return timm.create_model("vit_tiny_patch16_224", **options).state_dict()


def below(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def inside(part: str, state: State) -> State:
    """As wrappers of single blocks write them: FSDP, activation checkpointing, DDP of a part."""
    return {name.replace("blocks.1.", f"blocks.1.{part}."): value for name, value in state.items()}


OPTIMIZER = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(9)}}, "param_groups": [{"lr": 0.1}]}
HEAD = filled(linear("0", 8, 16))

KEYS: dict[str, Callable[[State, State], Any]] = {  # weights to find, others -> the content of a file
    "bare": lambda state, _: state,
    "PyTorch tutorial": lambda state, _: {
        "epoch": 3,
        "model_state_dict": state,
        "optimizer_state_dict": OPTIMIZER,
        "loss": 0.4,
    },
    "torchrun tutorial": lambda state, _: {"MODEL_STATE": state, "EPOCHS_RUN": 3},
    "two models of a tutorial": lambda state, _: {"modelA_state_dict": state, "modelB_state_dict": HEAD},
    "state_dict": lambda state, _: {"state_dict": state, "epoch": 3},
    "model": lambda state, _: {"model": state, "optimizer": OPTIMIZER, "lr_scheduler": {"last_epoch": 3}},
    "net": lambda state, _: {"net": state, "acc": 91.2, "epoch": 3},
    "network": lambda state, _: {"network": state},
    "params": lambda state, _: {"params": state},
    "weights": lambda state, _: {"weights": state},
    "module, DeepSpeed": lambda state, _: {"module": state, "global_steps": 4, "ds_config": {}},
    "distributed checkpoint": lambda state, _: {"app": {"model": state, "optim": OPTIMIZER}},
    "model, state_dict": lambda state, _: {"model": {"state_dict": state}},
    "checkpoint, model": lambda state, _: {"checkpoint": {"model": state, "optimizer": OPTIMIZER}},
    "state, net": lambda state, _: {"state": {"net": state}, "config": {"lr": 0.1}},
    "unknown key": lambda state, _: {"my_reid_weights": state, "centers": torch.zeros(5, 16)},
    "a list": lambda state, _: [state, {"epoch": torch.tensor(3)}],
    "backbone and head": lambda state, _: {"backbone": state, "head": HEAD},
    "encoder and decoder": lambda state, _: {"encoder": state, "decoder": HEAD},
    "OML": lambda state, _: {"state_dict": below("model.model.", state), "hyper_parameters": {"lr": 0.1}},
    "Lightning with a loss": lambda state, _: {
        "state_dict": {**below("model.", state), "criterion.weight": torch.zeros(5, 16)}
    },
    "mmengine": lambda state, _: {"meta": {}, "state_dict": below("backbone.", state), "message_hub": {}},
    "timm, averaged": lambda state, other: {"state_dict": other, "state_dict_ema": state},
    "DeiT, averaged": lambda state, other: {"model": other, "model_ema": state},
    "BasicSR, averaged": lambda state, other: {"params": other, "params_ema": state},
    "ema": lambda state, other: {"model": other, "ema": state, "updates": 9},
    "ema, module": lambda state, other: {"model": other, "ema": {"module": state, "updates": 9}},
    "mmengine, averaged": lambda state, other: {
        "state_dict": other,
        "ema_state_dict": {"steps": torch.tensor(3), **below("module.", state)},
    },
    "DINO": lambda state, other: {
        "student": below("module.backbone.", other),
        "teacher": {**below("backbone.", state), **below("head.", HEAD)},
        "optimizer": OPTIMIZER,
    },
    "I-JEPA": lambda state, other: {
        "encoder": below("module.", other),
        "target_encoder": below("module.", state),
        "predictor": HEAD,
    },
}
PREFIXES: dict[str, Callable[[State, State], Any]] = {
    **{
        prefix: lambda state, _, prefix=prefix: below(prefix, state)
        for prefix in (
            *(
                "module.",
                "_orig_mod.",
                "module._orig_mod.",
                "_orig_mod.module.",
                "model.",
                "net.",
                "encoder.",
                "backbone.",
            ),
            *(
                "model.backbone.",
                "backbone.model.",
                "net.module.",
                "encoder.net.",
                "model.net.encoder.backbone.module.",
            ),
            *(
                "backbone._orig_mod.",
                "feature_extractor.",
                "0.",
                "timm_model.",
                "visual.trunk.",
                "my_own_vit.",
                "a.b.c.d.",
            ),
        )
    },
    "block in FSDP": lambda state, _: inside("_fsdp_wrapped_module", state),
    "checkpointed block": lambda state, _: inside("_checkpoint_wrapped_module", state),
    "compiled block": lambda state, _: inside("_orig_mod", state),
    "AveragedModel": lambda state, _: {"n_averaged": torch.tensor(3), **below("module.", state)},
    "ema-pytorch": lambda state, other: {
        **below("online_model.", other),
        **below("ema_model.", state),
        "initted": torch.tensor(True),
    },
    "student and teacher": lambda state, other: {
        **below("student.backbone.", other),
        **below("teacher.backbone.", state),
    },
    "MoCo": lambda state, other: {
        **below("module.encoder_k.", other),
        **below("module.encoder_q.", state),
        "module.queue": torch.zeros(16, 9),
    },
    "MoCo v3": lambda state, other: {
        **below("module.momentum_encoder.", other),
        **below("module.base_encoder.", state),
    },
    "classifier next to it": lambda state, _: {**below("backbone.", state), **linear_weights("classifier")},
}


def linear_weights(name: str) -> State:
    return filled(linear(name, 5, 16))


def is_filled(model: ReidModel, state: State) -> bool:
    ours = model.backbone.net.state_dict()
    return all(torch.equal(ours[name], state[name].float()) for name in ours)


@pytest.mark.parametrize("case", [*KEYS, *PREFIXES])
def test_the_state_dict_is_found(case: str, tmp_path: Path):
    torch.save({**KEYS, **PREFIXES}[case](vit(), vit(1)), tmp_path / "weights.pth")
    model = ReidModel(SPEC)
    report = load_weights(model, tmp_path / "weights.pth", strict=False)
    assert report.coverage == 1.0 and not report.unexpected
    assert is_filled(model, vit())


AVERAGED = {  # case -> what the report says of the choice
    "timm, averaged": "the averaged weights under 'state_dict_ema', not those under 'state_dict'",
    "DeiT, averaged": "the averaged weights under 'model_ema', not those under 'model'",
    "ema, module": "the averaged weights under 'ema.module', not those under 'model'",
    "DINO": "the averaged weights under 'teacher', not those under 'student'",
    "ema-pytorch": "the averaged weights below 'ema_model.', not those below 'online_model.'",
    "student and teacher": "the averaged weights below 'teacher.', not those below 'student.'",
}


@pytest.mark.parametrize("case", AVERAGED)
def test_the_report_says_which_weights_were_taken(case: str, tmp_path: Path):
    torch.save({**KEYS, **PREFIXES}[case](vit(), vit(1)), tmp_path / "weights.pth")
    report = load_weights(ReidModel(SPEC), tmp_path / "weights.pth", strict=False)
    assert report.note == AVERAGED[case] and AVERAGED[case] in str(report)


def test_averaged_parameters_get_the_statistics_of_the_weights_next_to_them(tmp_path: Path):
    """Some averages are of parameters alone; a batch norm without its statistics would be useless."""
    net = timm.create_model("resnet18", num_classes=3)
    averaged = {name: value.detach() + 1 for name, value in net.named_parameters()}
    torch.save({"model": net.state_dict(), "ema": averaged}, tmp_path / "weights.pth")
    tensors = read_weights(tmp_path / "weights.pth").tensors
    assert torch.equal(tensors["conv1.weight"], averaged["conv1.weight"])
    assert torch.equal(tensors["bn1.running_var"], net.state_dict()["bn1.running_var"])


def test_an_average_without_names_is_passed_over(tmp_path: Path):
    """torch-ema stores a list; the weights of the model are the best that the file names."""
    torch.save({"model": vit(), "ema": {"decay": 0.9, "shadow_params": [*vit(1).values()]}}, tmp_path / "weights.pth")
    model = ReidModel(SPEC)
    load_weights(model, tmp_path / "weights.pth", strict=False)
    assert is_filled(model, vit())


# --- folders ------------------------------------------------------------------------------------------------------------


def in_shards(folder: Path, state: State, safe: bool) -> None:
    """As transformers writes a large model: an index, and two files."""
    suffix = "safetensors" if safe else "bin"
    stem = "model" if safe else "pytorch_model"
    names = sorted(state)
    halves = {f"{stem}-0000{i + 1}-of-00002.{suffix}": names[i::2] for i in (0, 1)}
    for file, part in halves.items():
        tensors = {name: state[name] for name in part}
        save_file(tensors, folder / file) if safe else torch.save(tensors, folder / file)
    places = {name: file for file, part in halves.items() for name in part}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


FOLDERS: dict[str, Callable[[Path, State], Any]] = {
    "model.safetensors": lambda folder, state: save_file(state, folder / "model.safetensors"),
    "pytorch_model.bin": lambda folder, state: torch.save(state, folder / "pytorch_model.bin"),
    "safetensors in shards": lambda folder, state: in_shards(folder, state, True),
    "bin in shards": lambda folder, state: in_shards(folder, state, False),
}


def test_a_folder_can_be_the_initial_weights(tmp_path: Path):
    """MODEL.PRETRAIN_PATH."""
    save_file(vit(), tmp_path / "model.safetensors")
    model = ReidModel(SPEC)
    load_initial(model, "imagenet", str(tmp_path))
    assert is_filled(model, vit())


@pytest.mark.parametrize("case", FOLDERS)
def test_the_folder_of_a_model_is_read(case: str, tmp_path: Path):
    FOLDERS[case](tmp_path, below("timm_model.", vit()))
    model = ReidModel(SPEC)
    load_weights(model, tmp_path, strict=False)
    assert is_filled(model, vit())


def test_a_shard_that_is_missing_is_named(tmp_path: Path):
    in_shards(tmp_path, vit(), True)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of 2 files: model-00002-of-00002\.safetensors"):
        read_weights(tmp_path)


def test_an_index_that_points_out_of_its_folder_is_refused(tmp_path: Path):
    (tmp_path / "model").mkdir()
    index = tmp_path / "model" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"cls_token": "../secret.safetensors"}}))
    with pytest.raises(ValueError, match="outside its folder, so it is refused"):
        read_weights(tmp_path / "model")


def test_a_folder_without_weights_says_what_it_looked_for(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"folder, without model\.safetensors, model\.safetensors\.index\.json"):
        read_weights(tmp_path)


# --- namings of backbones in wrappings ------------------------------------------------------------------------------------


@cache
def mobilenet() -> State:
    torch.manual_seed(0)
    return models.mobilenet_v3_small(num_classes=3).state_dict()


@cache
def resnet() -> State:
    torch.manual_seed(0)
    return models.resnet18(num_classes=3).state_dict()


@cache
def dinov2() -> State:
    """The names of the hub's files."""
    block = {"layer_scale1.lambda1": (64,), "layer_scale2.lambda1": (64,)}
    for part in ("query", "key", "value"):
        block |= linear(f"attention.attention.{part}", 64, 64)
    block |= {**linear("attention.output.dense", 64, 64), **linear("mlp.fc1", 256, 64), **linear("mlp.fc2", 64, 256)}
    block |= {f"norm{number}.{what}": (64,) for number in (1, 2) for what in ("weight", "bias")}
    shapes = {f"encoder.layer.{number}.{name}": shape for number in (0, 1) for name, shape in block.items()}
    shapes |= {
        "embeddings.cls_token": (1, 1, 64),
        "embeddings.mask_token": (1, 64),
        "embeddings.position_embeddings": (1, 17, 64),
    }
    shapes |= {
        "embeddings.patch_embeddings.projection.weight": (64, 3, 14, 14),
        "embeddings.patch_embeddings.projection.bias": (64,),
    }
    return filled({**shapes, "layernorm.weight": (64,), "layernorm.bias": (64,)})


@cache
def openai() -> State:
    block = {"attn.in_proj_weight": (192, 64), "attn.in_proj_bias": (192,), **linear("attn.out_proj", 64, 64)}
    block |= {**linear("mlp.c_fc", 256, 64), **linear("mlp.c_proj", 64, 256)}
    block |= {f"ln_{number}.{what}": (64,) for number in (1, 2) for what in ("weight", "bias")}
    shapes = {f"transformer.resblocks.{number}.{name}": shape for number in (0, 1) for name, shape in block.items()}
    shapes |= {
        "class_embedding": (64,),
        "positional_embedding": (17, 64),
        "conv1.weight": (64, 3, 16, 16),
        "proj": (64, 32),
    }
    return filled(
        {**shapes, **{f"{norm}.{what}": (64,) for norm in ("ln_pre", "ln_post") for what in ("weight", "bias")}}
    )


SMALL: dict[str, Any] = {"img_size": (64, 32), "embed_dim": 64, "depth": 2, "num_heads": 1}
NAMINGS: dict[str, tuple[Callable[[], State], ModelSpec, str]] = {  # tensors, model, project
    "timm's ViT": (vit, SPEC, "timm"),
    "torchvision's ResNet": (resnet, ModelSpec("resnet18", (64, 32)), "timm"),
    "torchvision's MobileNet": (mobilenet, ModelSpec("mobilenetv3_small_100", (64, 32)), "torchvision MobileNet"),
    "Hugging Face's DINOv2": (
        dinov2,
        ModelSpec("vit_base_patch14_dinov2", stride=(14, 14), **SMALL),
        "Hugging Face ViT",
    ),
    "OpenAI's CLIP": (openai, ModelSpec("vit_base_patch16_clip_quickgelu_224", **SMALL), "CLIP"),
}
WRAPPED = (
    "PyTorch tutorial",
    "OML",
    "timm, averaged",
    "DINO",
    "model.net.encoder.backbone.module.",
    "my_own_vit.",
    "MoCo",
    "backbone.",
)


@cache
def bare(naming: str) -> State:
    """The tensors of our model, filled from the state dict as it is."""
    make, spec, _ = NAMINGS[naming]
    model = ReidModel(spec)
    load_state(model, WeightsFile("bare", make(), None), strict=False)
    return model.backbone.net.state_dict()


@pytest.mark.parametrize("wrapping", WRAPPED)
@pytest.mark.parametrize("naming", NAMINGS)
def test_every_naming_is_recognised_in_every_wrapping(naming: str, wrapping: str):
    make, spec, project = NAMINGS[naming]
    other = {name: torch.zeros_like(value) for name, value in make().items()}
    tensors, note = find_state({**KEYS, **PREFIXES}[wrapping](make(), other))
    model = ReidModel(spec)
    report = load_state(model, WeightsFile("wrapped", tensors, None, note), strict=False)
    assert report.coverage > 0.999 and not report.unexpected
    assert report.project in (project, "self-supervised" if project == "timm" else project)
    assert is_filled(model, bare(naming))


def test_our_own_names_around_another_naming_are_a_prefix_like_any_other():
    """A Hugging Face model in a module called backbone.net is not one of ours."""
    tensors = below("backbone.net.", dinov2())
    report = load_state(ReidModel(NAMINGS["Hugging Face's DINOv2"][1]), WeightsFile("x", tensors, None), strict=False)
    assert (report.project, report.coverage) == ("Hugging Face ViT", 1.0)


# --- numbers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_without_numbers_are_refused_and_named(number: float, tmp_path: Path):
    state = {name: value.clone() for name, value in dinov2().items()}
    state["encoder.layer.1.attention.attention.key.weight"][3, 4] = number
    torch.save({"model": state}, tmp_path / "bad.pth")
    model = ReidModel(NAMINGS["Hugging Face's DINOv2"][1])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"bad\.pth: NaN or infinite.*encoder\.layer\.1\.attention\.attention\.key\.weight"
    ):
        load_weights(model, tmp_path / "bad.pth", strict=False)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_head_without_numbers_does_no_harm(tmp_path: Path):
    state = {**vit(), "head.weight": torch.full((3, 16), float("nan"))}
    torch.save(state, tmp_path / "weights.pth")
    assert load_weights(ReidModel(SPEC), tmp_path / "weights.pth", strict=False).coverage == 1.0
