"""The model is read off a weight file: name, sizes and parts, and what the tensors cannot say is said to be assumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from foreign_files import CLIP, clip_reid, filled, saved, torchreid_osnet
from helpers import original_state, read_golden

from vitreid.configs import load_config
from vitreid.model import ModelSpec, ReidModel, build_spec, load_weights
from vitreid.model.weights.identify.identify import identify
from vitreid.model.weights.naming.recognise_project import translate


def found_in(state: dict[str, torch.Tensor], config: dict[str, Any] | None = None, like: str = "") -> dict[str, Any]:
    """Return the options of the model that the tensors are of."""
    found = identify(translate(state), config or {}, like)
    assert found is not None
    return {key.removeprefix("MODEL."): value for key, value in found.options.items() if key.startswith("MODEL.")}


def shapes_of(name: str, **options: Any) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return timm.create_model(name, **options).state_dict()


PUBLISHED = [  # timm's models, each with its name as the answer
    *(
        "vit_tiny_patch16_224",
        "vit_small_patch16_224",
        "vit_base_patch16_224",
        "vit_base_patch32_224",
        "vit_base_patch8_224",
    ),
    *(
        "deit_tiny_distilled_patch16_224",
        "deit3_small_patch16_224",
        "vit_small_patch14_dinov2",
        "vit_small_patch14_reg4_dinov2",
    ),
    *("vit_base_patch16_clip_224", "vit_base_patch16_siglip_224", "vit_small_patch16_dinov3", "beit_base_patch16_224"),
    *(
        "vit_base_r50_s16_224",
        "resnet18",
        "resnet101",
        "convnext_small",
        "mobilenetv2_100",
        "efficientnet_b0",
        "swinv2_tiny_window8_256",
    ),
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_of_timm_is_recognised(name: str):
    options = found_in(shapes_of(name))
    patch = next((int(word[5:]) for word in name.split("_") if word.startswith("patch")), 16)
    more = {"STRIDE_SIZE": (patch, patch)} if patch != 16 else {}
    assert options == {"NAME": name, **more, **({"POOL": "avg"} if "siglip" in name else {})}


SIZES = {"embed_dim": 96, "depth": 3, "num_heads": 3}
OTHER_SIZES: dict[
    str, tuple[str, dict[str, Any], dict[str, Any]]
] = {  # timm's model, its options -> what is found besides sizes
    "plain": ("vit_base_patch16_224", {}, {"NAME": "vit_base_patch16_224"}),
    "no class token": (
        "vit_base_patch16_224",
        {"class_token": False, "global_pool": "avg"},
        {"NAME": "vit_base_patch16_224", "POOL": "avg"},
    ),
    "patches of 8": (
        "vit_base_patch16_224",
        {"patch_size": 8},
        {"NAME": "vit_base_patch16_224", "PATCH_SIZE": 8, "STRIDE_SIZE": (8, 8)},
    ),
    "registers and layer scale": (
        "vit_base_patch14_reg4_dinov2",
        {},
        {"NAME": "vit_base_patch14_reg4_dinov2", "STRIDE_SIZE": (14, 14)},
    ),
    "gated MLPs": ("vit_giant_patch14_dinov2", {}, {"NAME": "vit_giant_patch14_dinov2", "STRIDE_SIZE": (14, 14)}),
    "wide MLPs": ("vit_base_patch16_224", {"mlp_ratio": 3.7}, {"NAME": "vit_base_patch16_224", "MLP_RATIO": 355 / 96}),
}


@pytest.mark.parametrize("case", OTHER_SIZES)
def test_a_vit_of_other_sizes_is_a_named_one_with_options(case: str):
    name, options, wanted = OTHER_SIZES[case]
    config = {"hidden_size": 96, "num_attention_heads": 3}
    found = found_in(shapes_of(name, **SIZES, **options), config)
    assert found == {"EMBED_DIM": 96, "DEPTH": 3, "NUM_HEADS": 3, **wanted}


def test_the_named_model_is_kept_where_its_sizes_can_be_changed():
    state = shapes_of("vit_tiny_patch16_224", embed_dim=16, depth=3, num_heads=2)
    assert found_in(state, like="vit_tiny_patch16_224")["NAME"] == "vit_tiny_patch16_224"
    assert found_in(state, like="resnet50")["NAME"] == "vit_base_patch16_224"


def test_heads_that_nothing_states_are_said_to_be_assumed():
    state = translate(shapes_of("vit_small_patch16_224"))
    found = identify(state, {})
    assert found is not None and "6 heads, which the tensors do not say" in str(found)
    stated = identify(state, {"hidden_size": 384, "num_attention_heads": 12})
    assert stated is not None and stated.options["MODEL.NUM_HEADS"] == 12 and not stated.assumed


def test_pixels_are_those_of_the_config_of_the_naming_or_of_timm():
    state = translate(shapes_of("vit_small_patch14_dinov2"))
    found = identify(state, {"pixels": ((0.1, 0.2, 0.3), (0.5, 0.5, 0.4))})
    assert found is not None and found.options["INPUT.PIXEL_STD"] == (0.5, 0.5, 0.4)
    found = identify(state, {})
    assert found is not None and found.options["INPUT.PIXEL_MEAN"] == (0.485, 0.456, 0.406)


def test_a_model_that_nobody_has_is_not_made_up():
    state = shapes_of("vit_base_patch16_224", **SIZES)
    assert identify(translate({**state, "blocks.0.attn.gate.weight": torch.zeros(96, 96)}), {}) is None
    assert identify(translate({"layer.weight": torch.zeros(3, 3)}), {}) is None


# --- re-ID projects -------------------------------------------------------------------------------------------------------


def test_parts_of_re_identification_are_options_too():
    """TransReID with jigsaw and cameras, on crops of 256x128 pixels in steps of 12: 210 positions."""
    case, tensors = read_golden("jpm_stride12")
    state = original_state(tensors)
    options = found_in(
        state, {"hidden_size": case["embed_dim"], "num_attention_heads": case["num_heads"]}, like="vit_tiny_patch16_224"
    )
    assert options["NAME"] == "vit_tiny_patch16_224" and options["JPM"] and options["SIE_CAMERA"]
    crop = {**state, "base.pos_embed": torch.zeros(1, 211, case["embed_dim"])}
    assert found_in(crop)["STRIDE_SIZE"] == (12, 12)
    assert found_in(clip_file())["PROJECTION"] == 8 and found_in(clip_file())["NAME"] == CLIP.name


def clip_file() -> dict[str, torch.Tensor]:
    return filled(clip_reid())


def test_osnet_is_recognised_in_its_width():
    assert found_in(filled(torchreid_osnet(0.25))) == {"NAME": "osnet_x0_25"}


# --- errors ---------------------------------------------------------------------------------------------------------------


def test_the_error_names_the_model_that_fits_before_anything_else(tmp_path: Path):
    net = timm.create_model("vit_small_patch14_dinov2", img_size=28, depth=1)
    torch.save(net.state_dict(), tmp_path / "dino.pth")
    message = r"dino\.pth \(timm names\) does not fit the model vit_base_patch16_224, but MODEL\.NAME vit_base_patch14_dinov2 MODEL"
    with pytest.raises(
        ValueError,
        match=message + r"\.EMBED_DIM 384 MODEL\.DEPTH 1 MODEL\.NUM_HEADS 6 MODEL\.STRIDE_SIZE \"\(14, 14\)\"",
    ):
        load_weights(ReidModel(ModelSpec("vit_base_patch16_224", depth=1)), tmp_path / "dino.pth", strict=False)


def test_the_options_that_are_found_build_a_model_that_takes_the_file(tmp_path: Path):
    path = saved(tmp_path / "osnet.pth", filled(torchreid_osnet(0.25)))
    found = identify(translate(filled(torchreid_osnet(0.25))), {})
    assert found is not None
    model = ReidModel(build_spec(load_config(None, found.words()), ()))
    assert load_weights(model, path).coverage > 0.999
