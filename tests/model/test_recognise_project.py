"""Weight files of other projects are recognised and loaded whole: small ones with exactly their names and shapes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from foreign_files import CLIP, SIZE, Shapes, clip_reid, filled, linear, norm, saved, torchreid_osnet
from torch import nn

from vitreid.model import ModelSpec, ReidModel, load_weights
from vitreid.model.attention.rollout import attention_weights

# --- OSNet --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "width"), [("osnet_x1_0", 1.0), ("osnet_x0_25", 0.25)])
def test_every_tensor_of_torchreids_osnet_has_its_place(name: str, width: float, tmp_path: Path):
    state = filled(torchreid_osnet(width))
    model = ReidModel(ModelSpec(name, SIZE))
    report = load_weights(model, saved(tmp_path / "osnet.pth", state), strict=False)
    assert report.project == "torchreid's OSNet" and report.coverage > 0.999
    assert not report.unexpected and not report.mismatched
    net = model.backbone.net
    assert torch.equal(net.stages[1][1].streams[3][2][1].weight, state["conv3.1.conv2d.2.conv2.weight"])
    assert torch.equal(net.stages[0][0].gate.body[0].bias, state["conv2.0.gate.fc1.bias"])
    assert torch.equal(report.classifiers[0], state["classifier.weight"])
    assert report.left_out == ["classifier.bias"]


# --- T2T-ViT ------------------------------------------------------------------------------------------------------


def t2t_file(performer: bool, dim: int = 256, depth: int = 7, ratio: int = 2) -> Shapes:
    """T2T-ViT's models/t2t_vit.py for 224x224 pixels."""
    shapes: Shapes = {"cls_token": (1, 1, dim), "pos_embed": (1, 197, dim)}
    for number, inputs in ((1, 147), (2, 576)):
        name = f"tokens_to_token.attention{number}"
        shapes |= {**norm(f"{name}.norm1", inputs, False), **norm(f"{name}.norm2", 64, False)}
        if performer:
            shapes |= {f"{name}.w": (32, 64), **linear(f"{name}.kqv", 192, inputs), **linear(f"{name}.proj", 64, 64)}
            shapes |= {**linear(f"{name}.mlp.0", 64, 64), **linear(f"{name}.mlp.2", 64, 64)}
        else:
            shapes |= {**linear(f"{name}.attn.qkv", 192, inputs, False), **linear(f"{name}.attn.proj", 64, 64)}
            shapes |= {**linear(f"{name}.mlp.fc1", 64, 64), **linear(f"{name}.mlp.fc2", 64, 64)}
    shapes |= linear("tokens_to_token.project", dim, 576)
    for i in range(depth):
        block = f"blocks.{i}"
        shapes |= {**norm(f"{block}.norm1", dim, False), **norm(f"{block}.norm2", dim, False)}
        shapes |= {**linear(f"{block}.attn.qkv", 3 * dim, dim, False), **linear(f"{block}.attn.proj", dim, dim)}
        shapes |= {**linear(f"{block}.mlp.fc1", ratio * dim, dim), **linear(f"{block}.mlp.fc2", dim, ratio * dim)}
    return {**shapes, **norm("norm", dim, False), **linear("head", 5, dim)}


@pytest.mark.parametrize("performer", [True, False], ids=["performer", "transformer"])
def test_every_tensor_of_t2t_has_its_place(performer: bool, tmp_path: Path):
    sizes = (256, 7, 2) if performer else (384, 14, 3)
    state = filled(t2t_file(performer, *sizes))
    model = ReidModel(ModelSpec("t2t_vit_7" if performer else "t2t_vit_t_14", (256, 128), jpm=performer))
    report = load_weights(model, saved(tmp_path / "t2t.pth.tar", state, "state_dict_ema"), strict=False)
    assert (report.project, report.coverage) == ("T2T-ViT", 1.0)
    assert report.resized["backbone.net.pos_embed"] == "14x14 -> 16x8 patches"
    assert report.left_out == ["backbone.net.head.weight", "backbone.net.head.bias"]
    if performer:  # keys, queries, values -> queries, keys, values
        mixed = state["tokens_to_token.attention1.kqv.weight"]
        assert torch.equal(model.backbone.net.patch_embed.first.qkv.weight[:64], mixed[64:128])


# --- fast-reid and torchreid's ResNets ----------------------------------------------------------------------------


def fast_reid(ibn: bool, gem: bool) -> Shapes:
    """fast-reid's Baseline with a ResNet-50: torchvision's names, and its heads."""
    shapes = {
        f"backbone.{name}": tuple(value.shape) for name, value in timm.create_model("resnet50").state_dict().items()
    }
    shapes = {name: shape for name, shape in shapes.items() if not name.startswith("backbone.fc.") and shape}
    for layer, count, width in ((1, 3, 64), (2, 4, 128), (3, 6, 256)) if ibn else ():
        for i in range(count):
            name = f"backbone.layer{layer}.{i}.bn1"
            for kind in ("weight", "bias", "running_mean", "running_var"):
                del shapes[f"{name}.{kind}"]
            shapes |= {**norm(f"{name}.IN", width // 2, False), **norm(f"{name}.BN", width // 2)}
    shapes |= {"pixel_mean": (1, 3, 1, 1), "pixel_std": (1, 3, 1, 1), "heads.weight": (5, 2048)}
    return {**shapes, **norm("heads.bottleneck.0", 2048), **({"heads.pool_layer.p": (1,)} if gem else {})}


@pytest.mark.parametrize(("ibn", "gem"), [(False, False), (True, True)], ids=["bot", "ibn, gem"])
def test_every_tensor_of_fast_reid_has_its_place(ibn: bool, gem: bool, tmp_path: Path):
    state = filled(fast_reid(ibn, gem))
    name = "resnet50_ibn_fastreid" if ibn else "resnet50_fastreid"
    model = ReidModel(ModelSpec(name, SIZE, pool="gem" if gem else "token"))
    report = load_weights(model, saved(tmp_path / "fast.pth", state, "model"))
    assert (report.project, report.left_out) == ("fast-reid", ["pixel_mean", "pixel_std"])
    assert not report.missing and report.coverage > 0.999
    assert torch.equal(model.neck.running_var, state["heads.bottleneck.0.running_var"])
    assert torch.equal(report.classifiers[0], state["heads.weight"])


def with_non_local(shapes: Shapes) -> Shapes:
    """fast-reid's layers/non_local.py behind the last blocks of two stages."""
    for stage, count, width in ((2, 2, 512), (3, 3, 1024)):
        for i in range(count):
            name = f"backbone.NL_{stage}.{i}"
            for layer in ("g", "theta", "phi"):
                shapes |= {f"{name}.{layer}.weight": (1, width, 1, 1), f"{name}.{layer}.bias": (1,)}
            shapes |= {
                f"{name}.W.0.weight": (width, 1, 1, 1),
                f"{name}.W.0.bias": (width,),
                **norm(f"{name}.W.1", width),
            }
    return shapes


def test_every_tensor_of_fast_reids_non_local_blocks_has_its_place(tmp_path: Path):
    state = filled(with_non_local(fast_reid(False, True)))
    model = ReidModel(ModelSpec("resnet50_fastreid_sbs", SIZE, pool="gem"))
    report = load_weights(model, saved(tmp_path / "sbs.pth", state, "model"))
    assert not report.missing and report.coverage > 0.999
    net = model.backbone.net
    assert torch.equal(net.layer2[3].non_local.query.weight, state["backbone.NL_2.1.theta.weight"])
    assert torch.equal(net.layer3[3].non_local.expand[1].bias, state["backbone.NL_3.0.W.1.bias"])
    assert not hasattr(net.layer3[2], "non_local")


def test_torchreids_fc_stands_behind_the_pooling(tmp_path: Path):
    state = {name.removeprefix("backbone."): shape for name, shape in fast_reid(False, False).items()}
    state = {name: shape for name, shape in state.items() if not name.startswith(("heads", "pixel"))}
    file = filled({**state, **linear("fc.0", 512, 2048), **norm("fc.1", 512), **linear("classifier", 5, 512)})
    model = ReidModel(ModelSpec("resnet50_fc512", SIZE, neck="no"))
    report = load_weights(model, saved(tmp_path / "fc512.pth", file))
    assert report.project == "torchreid's ResNet" and not report.missing
    assert torch.equal(model.backbone.net.global_pool.embedding[0].weight, file["fc.0.weight"])
    assert torch.equal(report.classifiers[0], file["classifier.weight"])


def test_fast_reids_gem_does_not_fit_a_mean_and_names_the_option(tmp_path: Path):
    path = saved(tmp_path / "fast.pth", filled(fast_reid(True, True)))
    with pytest.raises(ValueError, match=r"backbone\.net\.global_pool\.p.*MODEL\.POOL"):
        load_weights(ReidModel(ModelSpec("resnet50_ibn_fastreid", SIZE)), path, strict=False)


# --- CLIP-ReID ----------------------------------------------------------------------------------------------------


def test_every_tensor_of_clip_reid_has_its_place(tmp_path: Path):
    state = filled(clip_reid())
    spec = replace(CLIP, sie_camera=True, sie_tokens="class", cameras=("a", "b"))
    model = ReidModel(spec)
    report = load_weights(model, saved(tmp_path / "clip.pth", state))
    assert (report.project, report.coverage, report.missing) == ("CLIP-ReID", 1.0, [])
    assert len(report.left_out) == 4
    assert torch.equal(model.backbone.projection.weight, state["image_encoder.proj"].t())
    assert torch.equal(model.backbone.sie.table, state["cv_embed"])
    assert torch.equal(model.neck.bias[16:], state["bottleneck_proj.bias"])


def test_projection_is_appended_to_the_feature_and_the_error_names_the_option(tmp_path: Path):
    model = ReidModel(CLIP).eval()
    feature = model.embed(torch.rand(2, 3, *SIZE))
    torch.testing.assert_close(feature[:, 16:], feature[:, :16] @ model.backbone.projection.weight.t())
    path = saved(tmp_path / "clip.pth", filled(clip_reid()))
    with pytest.raises(ValueError, match=r"MODEL\.SIE_CAMERA, MODEL\.SIE_VIEW, MODEL\.PROJECTION"):
        load_weights(ReidModel(replace(CLIP, projection=0)), path)


def test_side_information_of_the_class_token_leaves_the_patches_alone():
    model = ReidModel(replace(CLIP, sie_camera=True, sie_tokens="class", cameras=("a", "b"))).eval()
    first, second = (model.backbone.embed_tokens(torch.zeros(1, 3, *SIZE), torch.tensor([i]), None) for i in (0, 1))
    assert torch.equal(first[:, 1:], second[:, 1:])
    assert not torch.equal(first[:, 0], second[:, 0])
    with pytest.raises(ValueError, match=r"MODEL\.SIE_TOKENS class.*MODEL\.POOL token"):
        ReidModel(replace(CLIP, sie_camera=True, sie_tokens="class", cameras=("a", "b"), pool="avg"))


# --- timm ---------------------------------------------------------------------------------------------------------


def test_a_norm_behind_the_mean_stays_there_or_becomes_the_last_one(tmp_path: Path):
    """EVA-02 has its norm behind the mean, in timm as here; a ViT has its norm before pooling, as TransReID does."""
    eva = timm.create_model("eva02_tiny_patch14_224", img_size=(28, 28), num_classes=3)
    model = ReidModel(ModelSpec("eva02_tiny_patch14_224", (28, 28)))
    report = load_weights(model, saved(tmp_path / "eva.pth", eva.state_dict()), strict=False)
    assert report.coverage == 1.0 and torch.equal(model.backbone.net.fc_norm.weight, eva.fc_norm.weight)
    sizes = {"img_size": (64, 32), "embed_dim": 16, "depth": 1, "num_heads": 2}
    vit = timm.create_model("vit_tiny_patch16_224", global_pool="avg", class_token=False, **sizes)
    nn.init.normal_(vit.fc_norm.weight)
    model = ReidModel(ModelSpec("vit_tiny_patch16_224", (64, 32), embed_dim=16, depth=1, num_heads=2, pool="avg"))
    load_weights(model, saved(tmp_path / "vit.pth", vit.state_dict()), strict=False)
    assert torch.equal(model.backbone.net.norm.weight, vit.fc_norm.weight)


# --- TransReID and its descendants --------------------------------------------------------------------------------


def reid_vit(dim: int, depth: int, bias: bool = True, ratio: int = 4) -> Shapes:
    """The names of TransReID's ViT for 64x32 pixels."""
    shapes: Shapes = {"cls_token": (1, 1, dim), "pos_embed": (1, 9, dim), **norm("norm", dim, False)}
    shapes |= {"patch_embed.proj.weight": (dim, 3, 16, 16), "patch_embed.proj.bias": (dim,)}
    for i in range(depth):
        block = f"blocks.{i}"
        shapes |= {**norm(f"{block}.norm1", dim, False), **norm(f"{block}.norm2", dim, False)}
        shapes |= {**linear(f"{block}.attn.qkv", 3 * dim, dim, bias), **linear(f"{block}.attn.proj", dim, dim)}
        shapes |= {**linear(f"{block}.mlp.fc1", ratio * dim, dim), **linear(f"{block}.mlp.fc2", dim, ratio * dim)}
    return shapes


def test_transreids_own_small_vit_has_no_bias_and_its_own_scale(tmp_path: Path):
    """Width 16, 2 heads: the products of queries and keys are divided by 4, not by the root of 8."""
    file = {f"base.{name}": value for name, value in filled(reid_vit(16, 2, bias=False, ratio=3)).items()}
    model = ReidModel(ModelSpec("transreid_vit_small", SIZE, embed_dim=16, depth=2, num_heads=2, neck="no"))
    assert load_weights(model, saved(tmp_path / "small.pth", file)).coverage == 1.0
    tokens, block = torch.rand(1, 9, 16), model.backbone.net.blocks[0]
    query, key, _ = block.attn.qkv(block.norm1(tokens)).view(1, 9, 3, 2, 8).permute(2, 0, 3, 1, 4)
    torch.testing.assert_close(attention_weights(block, tokens), (query @ key.mT / 4).softmax(-1))


@pytest.mark.parametrize("prefix", ["base.", "backbone.", ""], ids=["fine-tuned", "pretraining", "converted"])
def test_transreid_ssls_stem_has_its_place(prefix: str, tmp_path: Path):
    shapes = {**reid_vit(16, 1), "patch_embed.proj.weight": (16, 64, 8, 8), **norm("patch_embed.conv.7", 64)}
    for index, inputs, kernel in ((0, 3, 7), (3, 64, 3), (6, 64, 3)):
        shapes[f"patch_embed.conv.{index}.weight"] = (64, inputs, kernel, kernel)
        if index < 6:
            shapes |= {
                **norm(f"patch_embed.conv.{index + 1}.IN", 32, False),
                **norm(f"patch_embed.conv.{index + 1}.BN", 32),
            }
    file = {f"{prefix}{name}": value for name, value in filled(shapes).items()}
    spec = ModelSpec("vit_tiny_patch16_224", SIZE, embed_dim=16, depth=1, num_heads=2, stem="ics")
    model = ReidModel(spec)
    report = load_weights(model, saved(tmp_path / "ics.pth", file), strict=False)
    assert report.coverage > 0.999 and not report.missing[4:]  # the neck's four
    assert torch.equal(model.backbone.net.patch_embed.body[4].IN.bias, file[f"{prefix}patch_embed.conv.4.IN.bias"])


def test_part_tokens_of_pass_become_registers_with_their_positions(tmp_path: Path):
    tokens = [f"part_token{number}" for number in (1, 2, 3)]
    positions = ["cls_pos", "part1_pos", "part2_pos", "part3_pos"]
    shapes = {**reid_vit(16, 1), "pos_embed": (1, 8, 16), **dict.fromkeys((*tokens, *positions), (1, 1, 16))}
    file = {f"backbone.{name}": value for name, value in filled(shapes).items()}
    model = ReidModel(ModelSpec("pass_vit_small", SIZE, embed_dim=16, depth=1, num_heads=2))
    report = load_weights(model, saved(tmp_path / "pass.pth", file, "teacher"), strict=False)
    assert (report.coverage, report.unexpected) == (1.0, [])
    net = model.backbone.net
    assert torch.equal(net.reg_token[:, 1:2], file["backbone.part_token2"])
    assert torch.equal(net.pos_embed[:, 3:4], file["backbone.part3_pos"])
    assert torch.equal(net.pos_embed[:, 4:], file["backbone.pos_embed"])


def test_the_stem_of_transreid_ssl_needs_even_steps():
    with pytest.raises(ValueError, match=r"MODEL\.STRIDE_SIZE.*MODEL\.STEM ics.*\(15, 15\)"):
        ReidModel(ModelSpec("vit_tiny_patch16_224", SIZE, stride=(15, 15), stem="ics"))


# --- SOLIDER ------------------------------------------------------------------------------------------------------


def solider(dim: int = 96, depths: tuple[int, ...] = (2, 2, 6, 2), heads: tuple[int, ...] = (3, 6, 12, 24)) -> Shapes:
    """SOLIDER's SwinTransformer, mmdetection's with its semantic maps, as its pretraining keeps it."""
    shapes: Shapes = {"patch_embed.projection.weight": (dim, 3, 4, 4), "patch_embed.projection.bias": (dim,)}
    shapes |= norm("patch_embed.norm", dim, False)
    for stage, depth in enumerate(depths):
        width, after = dim << stage, dim << min(stage + 1, 3)
        for i in range(depth):
            block = f"stages.{stage}.blocks.{i}"
            shapes |= {**norm(f"{block}.norm1", width, False), **norm(f"{block}.norm2", width, False)}
            shapes |= {f"{block}.attn.w_msa.relative_position_bias_table": (169, heads[stage])}
            shapes |= {f"{block}.attn.w_msa.relative_position_index": (49, 49)}
            shapes |= linear(f"{block}.attn.w_msa.qkv", 3 * width, width)
            shapes |= linear(f"{block}.attn.w_msa.proj", width, width)
            shapes |= linear(f"{block}.ffn.layers.0.0", 4 * width, width)
            shapes |= linear(f"{block}.ffn.layers.1", width, 4 * width)
        if stage < 3:
            shapes |= norm(f"stages.{stage}.downsample.norm", 4 * width, False)
            shapes |= linear(f"stages.{stage}.downsample.reduction", after, 4 * width, False)
        shapes |= norm(f"norm{stage}", width, False)
        shapes |= {**linear(f"semantic_embed_w.{stage}", after, 2), **linear(f"semantic_embed_b.{stage}", after, 2)}
    return {f"backbone.{name}": shape for name, shape in shapes.items()}


def test_every_tensor_of_soliders_swin_has_its_place(tmp_path: Path):
    state = filled(solider())
    model = ReidModel(ModelSpec("solider_swin_tiny", (64, 32)))
    report = load_weights(model, saved(tmp_path / "solider.pth", state, "teacher"), strict=False)
    assert (report.project, report.coverage) == ("SOLIDER", 1.0)
    assert report.unexpected == []
    layer = model.backbone.net.layers[1]
    assert torch.equal(layer.downsample.scale.weight, state["backbone.semantic_embed_w.0.weight"])
    there = state["backbone.stages.0.downsample.norm.weight"]  # (channel, place), places row by row
    ours = layer.downsample.layer.norm.weight  # (place, channel), places column by column
    assert torch.equal(ours.view(4, 96)[1], there.view(96, 4)[:, 2])


# --- Google's JAX -------------------------------------------------------------------------------------------------


def jax_vit(dim: int = 16, heads: int = 2, depth: int = 2) -> Shapes:
    """ViT-B_16.npz, smaller: 64x64 pixels, 5 classes."""
    shapes: Shapes = {"cls": (1, 1, dim), "embedding/kernel": (16, 16, 3, dim), "embedding/bias": (dim,)}
    shapes |= {"Transformer/posembed_input/pos_embedding": (1, 17, dim), "head/kernel": (dim, 5), "head/bias": (5,)}
    shapes |= {f"Transformer/encoder_norm/{kind}": (dim,) for kind in ("scale", "bias")}
    for i in range(depth):
        block, each = f"Transformer/encoderblock_{i}", dim // heads
        for layer in ("LayerNorm_0", "LayerNorm_2"):
            shapes |= {f"{block}/{layer}/{kind}": (dim,) for kind in ("scale", "bias")}
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for part in ("query", "key", "value"):
            shapes |= {f"{attention}/{part}/kernel": (dim, heads, each), f"{attention}/{part}/bias": (heads, each)}
        shapes |= {f"{attention}/out/kernel": (heads, each, dim), f"{attention}/out/bias": (dim,)}
        for layer, (inputs, outputs) in (("Dense_0", (dim, 4 * dim)), ("Dense_1", (4 * dim, dim))):
            name = f"{block}/MlpBlock_3/{layer}"
            shapes |= {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}
    return shapes


def jax_hybrid() -> Shapes:
    """The root of R50+ViT-B_16.npz and small units, for a tower that timm's small model lacks."""
    net = timm.create_model("vit_base_r50_s16_224", num_classes=0, depth=1, embed_dim=16, num_heads=2, img_size=64)
    shapes = {**jax_vit(depth=1), "embedding/kernel": (1, 1, 1024, 16)}
    for name, value in net.patch_embed.backbone.state_dict().items():
        words, shape = name.split("."), tuple(value.shape)
        where = "" if words[0] == "stem" else f"block{int(words[1]) + 1}/unit{int(words[3]) + 1}/"
        layer, kind = words[-2], words[-1]
        number = "_root" if words[0] == "stem" else "_proj" if "downsample" in words else layer[-1]
        if len(shape) == 4:
            shapes[f"{where}conv{number}/kernel"] = (shape[2], shape[3], shape[1], shape[0])
        else:
            shapes[f"{where}gn{number}/{'scale' if kind == 'weight' else kind}"] = (1, 1, 1, *shape)
    return shapes


def npz(path: Path, shapes: Shapes) -> Path:
    np.savez(path, **{name: value.numpy() for name, value in filled(shapes).items()})
    return path


@pytest.mark.parametrize(
    ("name", "depth", "shapes"),
    [("vit_base_patch16_224", 2, jax_vit), ("vit_base_r50_s16_224", 1, jax_hybrid)],
    ids=["vit", "hybrid"],
)
def test_jax_weights_give_the_model_that_timms_own_loader_gives(name: str, depth: int, shapes: partial, tmp_path: Path):
    path = npz(tmp_path / "weights.npz", shapes())
    spec = ModelSpec(name, (64, 64), embed_dim=16, depth=depth, num_heads=2, jpm=True)
    model = ReidModel(spec)
    report = load_weights(model, path, strict=False)
    assert (report.project, report.coverage, report.left_out) == ("Google's JAX", 1.0, ["head/kernel", "head/bias"])
    other = timm.create_model(name, img_size=64, embed_dim=16, depth=depth, num_heads=2, num_classes=0)
    other.load_pretrained(str(path))
    ours, theirs = model.backbone.net.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_jax_position_embedding_is_resampled_for_a_person_crop(tmp_path: Path):
    model = ReidModel(ModelSpec("vit_base_patch16_224", SIZE, embed_dim=16, depth=2, num_heads=2))
    report = load_weights(model, npz(tmp_path / "vit.npz", jax_vit()), strict=False)
    assert report.resized == {"backbone.net.pos_embed": "4x4 -> 4x2 patches"}


# --- files of strangers, coverage, conversion ---------------------------------------------------------------------


def test_half_a_clip_reid_file_is_named(tmp_path: Path):
    state = {name: value for name, value in filled(clip_reid()).items() if not name.startswith("bottleneck_proj.")}
    with pytest.raises(ValueError, match=r"bottleneck\.weight.*bottleneck_proj\.weight"):
        load_weights(ReidModel(CLIP), saved(tmp_path / "clip.pth", state))


def test_coverage_decides_whether_a_lack_is_an_error(tmp_path: Path):
    state = {name: value for name, value in filled(torchreid_osnet()).items() if not name.startswith("fc.1.")}
    path, model = saved(tmp_path / "osnet.pth", state), ReidModel(ModelSpec("osnet_x0_25", SIZE))
    with pytest.raises(ValueError, match=r"4 not in the file: backbone\.net\.embedding\.1\.weight"):
        load_weights(model, path, strict=False)
    with pytest.raises(ValueError, match="not in the file"):
        load_weights(model, path, strict=False, min_coverage=0.999)
    report = load_weights(model, path, strict=False, min_coverage=0.98)
    assert 0.98 < report.coverage < 0.999 and len(report.missing) == 8  # and the neck's four


def test_coverage_excuses_nothing_but_the_backbone(tmp_path: Path):
    """A strict import without the neck is an error, whatever share of the backbone is asked for."""
    path, model = saved(tmp_path / "osnet.pth", filled(torchreid_osnet())), ReidModel(ModelSpec("osnet_x0_25", SIZE))
    with pytest.raises(ValueError, match=r"4 not in the file: neck\.weight.*MODEL\.NECK"):
        load_weights(model, path, min_coverage=0.5)
    lacking = {name: value for name, value in filled(torchreid_osnet()).items() if not name.startswith("conv5.")}
    with pytest.raises(ValueError, match=r"9\d\.\d\d%.*99\.90%"):
        load_weights(model, saved(tmp_path / "less.pth", lacking), strict=False, min_coverage=0.999)
