"""Weight files of other projects, small ones with exactly their names and shapes; and our own backbones."""

from __future__ import annotations

import argparse
import collections
import copy
import os
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.models.swin_transformer import PatchMerging
from torch import Tensor, nn
from vitreid.model import ModelSpec, ReidModel, load_deploy, load_weights
from vitreid.model.attention.rollout import attention_weights
from vitreid.model.backbones import registry
from vitreid.model.backbones.osnet import OSNet
from vitreid.model.backbones.resnet import GeneralizedMean, NonLocal
from vitreid.model.backbones.swin import Modulated, semantic_swin
from vitreid.model.backbones.t2t import Performer, Softmax, sinusoids, t2t_vit
from vitreid.model.weights.read import read_weights
from vitreid.tools import convert

SIZE = (64, 32)
CLIP = ModelSpec("vit_base_patch16_clip_quickgelu_224", SIZE, embed_dim=16, depth=2, num_heads=2, projection=8)
Shapes = dict[str, tuple[int, ...]]


def filled(shapes: Shapes) -> dict[str, Tensor]:
    """Random tensors; variances are positive."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(shape, generator=generator) * 0.2 + 0.1 for name, shape in shapes.items()}


def saved(path: Path, state: dict[str, Tensor], container: str = "state_dict") -> Path:
    torch.save({container: {f"module.{name}": value for name, value in state.items()}}, path)
    return path


def norm(name: str, width: int, batch: bool = True) -> Shapes:
    kinds = ("weight", "bias", *(("running_mean", "running_var") if batch else ()))
    return {f"{name}.{kind}": (width,) for kind in kinds}


def linear(name: str, outputs: int, inputs: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), **({f"{name}.bias": (outputs,)} if bias else {})}


# --- OSNet --------------------------------------------------------------------------------------------------------


def torchreid_osnet(width: float = 0.25) -> Shapes:
    """torchreid/models/osnet.py, class OSNet."""
    c = [int(width * count) for count in (64, 256, 384, 512)]

    def conv(name: str, outputs: int, inputs: int, kernel: int = 1) -> Shapes:
        return {f"{name}.conv.weight": (outputs, inputs, kernel, kernel), **norm(f"{name}.bn", outputs)}

    def light(name: str, m: int) -> Shapes:
        return {f"{name}.conv1.weight": (m, m, 1, 1), f"{name}.conv2.weight": (m, 1, 3, 3), **norm(f"{name}.bn", m)}

    shapes = conv("conv1", c[0], 3, 7)
    for stage in (2, 3, 4):
        for index, inputs in enumerate((c[stage - 2], c[stage - 1])):
            block, outputs, m = f"conv{stage}.{index}", c[stage - 1], c[stage - 1] // 4
            shapes |= {**conv(f"{block}.conv1", m, inputs), **light(f"{block}.conv2a", m)}
            for letter, depth in (("b", 2), ("c", 3), ("d", 4)):
                for i in range(depth):
                    shapes |= light(f"{block}.conv2{letter}.{i}", m)
            shapes |= {f"{block}.gate.fc1.weight": (m // 16, m, 1, 1), f"{block}.gate.fc1.bias": (m // 16,)}
            shapes |= {f"{block}.gate.fc2.weight": (m, m // 16, 1, 1), f"{block}.gate.fc2.bias": (m,)}
            shapes |= conv(f"{block}.conv3", outputs, m)
            if inputs != outputs:
                shapes |= conv(f"{block}.downsample", outputs, inputs)
        if stage < 4:
            shapes |= conv(f"conv{stage}.2.0", c[stage - 1], c[stage - 1])
    return {
        **shapes,
        **conv("conv5", c[3], c[3]),
        **linear("fc.0", 512, c[3]),
        **norm("fc.1", 512),
        **linear("classifier", 5, 512),
    }


@pytest.mark.parametrize(
    ("name", "millions"), [("osnet_x1_0", 2.2), ("osnet_x0_75", 1.3), ("osnet_x0_5", 0.6), ("osnet_x0_25", 0.2)]
)
def test_osnet_has_the_published_number_of_parameters(name: str, millions: float):
    count = sum(parameter.numel() for parameter in registry.create_net(name).parameters())
    assert round(count / 1e6, 1) == millions  # table 7 of the paper


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


def test_osnet_behaves_as_timms_models():
    net = OSNet(0.25, num_classes=7).eval()
    images = torch.rand(2, 3, *SIZE)
    features = net.forward_features(images)
    assert features.shape == (2, 128, 4, 2)
    assert net(images).shape == (2, 7)
    embedding = net.forward_head(features, pre_logits=True)
    net.reset_classifier(0)
    assert torch.equal(net(images), embedding) and embedding.shape == (2, net.num_features)


def test_own_backbones_know_how_deep_their_layers_are():
    numbers = ReidModel(ModelSpec("osnet_x0_25", SIZE)).layer_numbers()
    assert numbers["backbone.net.stem.0.0.weight"] == 0
    assert numbers["backbone.net.stages.0.0.reduce.0.weight"] < numbers["backbone.net.stages.2.1.reduce.0.weight"]
    assert numbers["backbone.net.embedding.0.weight"] == numbers["backbone.net.stages.2.1.reduce.0.weight"]


def test_a_misspelt_own_backbone_is_suggested():
    with pytest.raises(ValueError, match="no model 'osnet_x1_1'; did you mean osnet_x1_0"):
        ReidModel(ModelSpec("osnet_x1_1"))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("osnet_x0_25", {}),
        ("resnet50_ibn_stride1", {"pool": "gem"}),
        ("resnet50_fc512", {}),
        ("solider_swin_tiny", {"img_size": SIZE}),
        ("t2t_vit_7", {"img_size": SIZE, "depth": 2}),
        ("transreid_vit_small", {"img_size": SIZE, "depth": 2}),
    ],
)
@torch.no_grad()
def test_own_backbones_behave_as_timms_models(name: str, options: dict):
    """Features, head, another classifier, none; the pooled feature is the same throughout."""
    net, images = registry.create_net(name, num_classes=7, **options).eval(), torch.rand(2, 3, *SIZE)
    pooled = net.forward_head(net.forward_features(images), pre_logits=True)
    assert net(images).shape == (2, net.num_classes) == (2, 7)
    assert net.get_classifier().in_features == pooled.shape[1] == net.num_features
    maps = net.forward_intermediates(images, intermediates_only=True)
    grids = [(SIZE[0] // info["reduction"], SIZE[1] // info["reduction"]) for info in net.feature_info]
    assert [tuple(x.shape[1:]) for x in maps] == [(info["num_chs"], *g) for info, g in zip(net.feature_info, grids)]
    net.reset_classifier(5)
    assert net(images).shape == (2, 5)
    net.reset_classifier(0)
    assert torch.equal(net(images), pooled)
    assert torch.equal(registry.create_net(name, num_classes=0, **options).eval()(images).isfinite(), pooled.isfinite())


def test_feature_maps_of_osnet_are_chosen_by_number():
    net, images = OSNet(0.25).eval(), torch.rand(1, 3, *SIZE)
    last, maps = net.forward_intermediates(images, indices=[-1, 0])
    assert torch.equal(last, net.forward_features(images))
    assert [x.shape[1] for x in maps] == [64, 128]
    assert [x.shape[1] for x in net.forward_intermediates(images, indices=1, intermediates_only=True)] == [128]


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


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("t2t_vit_7", 4.3),
        ("t2t_vit_10", 5.9),
        ("t2t_vit_12", 6.9),
        ("t2t_vit_14", 21.5),
        ("t2t_vit_19", 39.2),
        ("t2t_vit_24", 64.1),
        ("t2t_vit_t_14", 21.5),
    ],
)
def test_t2t_has_the_published_number_of_parameters(name: str, millions: float):
    """With its classifier, random features and position embedding, which the authors count too."""
    with torch.device("meta"):
        net = registry.create_net(name, num_classes=1000)
    assert sum(value.numel() for value in net.state_dict().values()) / 1e6 == pytest.approx(millions, abs=0.06)


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


def test_performer_stands_for_exp_of_products_on_average():
    """E[phi(x) phi(y)] = exp(x . y) for normal features, here many of them."""
    layer = Performer(4, 4)
    layer.features = torch.randn(100_000, 4, generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor([[[0.5, -0.3, 0.2, 0.1]]]), torch.tensor([[[0.1, 0.4, -0.2, 0.3]]])
    assert (layer.kernel(x) * layer.kernel(y)).sum().item() == pytest.approx((x * y).sum().exp().item(), rel=0.01)


def test_tokens_come_row_by_row_from_where_they_are():
    """A bright spot at (row 2, column 1) of the 4x2 grid moves the token 2 * 2 + 1 most."""
    torch.manual_seed(0)
    stem = t2t_vit(Softmax, img_size=SIZE, embed_dim=16, depth=1, num_heads=2, num_classes=0).patch_embed
    images = torch.zeros(2, 3, *SIZE)
    images[1, :, 36:44, 20:28] = 1.0
    dark, bright = stem(images)
    assert stem.grid_size == (4, 2)
    assert (bright - dark).norm(dim=1).argmax() == 5


def test_sinusoids_by_eye():
    table = sinusoids(3, 4)[0]
    assert torch.equal(table[0], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    expected = [np.sin(2.0), np.cos(2.0), np.sin(0.02), np.cos(0.02)]  # 10000 ** (2 / 4) = 100
    assert table[2].tolist() == pytest.approx(expected)


def test_t2t_keeps_its_stem():
    with pytest.raises(ValueError, match=r"MODEL.STEM, MODEL.STRIDE_SIZE: t2t_vit_7 .* leave them"):
        ReidModel(ModelSpec("t2t_vit_7", SIZE, stride=(12, 12)))


# --- side information without tokens ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["osnet_x0_25", "resnet18", "convnext_atto", "swin_tiny_patch4_window7_224", "solider_swin_tiny"]
)
def test_side_information_comes_in_behind_the_stem(name: str):
    """It changes the features, by camera, and by the weight 0 not at all; unknown cameras are taken."""
    spec = ModelSpec(name, SIZE, sie_camera=True, cameras=("a", "b"))
    model, images = ReidModel(spec).eval(), torch.rand(1, 3, *SIZE).expand(3, -1, -1, -1)
    with torch.no_grad():
        model.backbone.sie.table.mul_(50)
        first, second, unknown = model.embed(images, torch.tensor([0, 1, -1]))
        model.backbone.sie.coe = 0.0
        without = model.embed(images, torch.tensor([0, 1, -1]))
    assert not torch.allclose(first, second) and not torch.allclose(first, unknown)
    torch.testing.assert_close(without[0], without[2])
    assert model.layer_numbers()["backbone.sie.table"] == 0


def test_side_information_needs_a_stage_that_it_knows():
    with pytest.raises(
        ValueError, match=r"MODEL.SIE_CAMERA, MODEL.SIE_VIEW: vgg11 has no part called layer1, .*; set them False"
    ):
        ReidModel(ModelSpec("vgg11", SIZE, sie_camera=True, cameras=("a",)))


def test_side_information_behind_a_stem_is_copied_with_its_model():
    model = ReidModel(ModelSpec("osnet_x0_25", SIZE, sie_camera=True, cameras=("a", "b"))).eval()
    twin, images, camids = copy.deepcopy(model), torch.rand(2, 3, *SIZE), torch.tensor([0, 1])
    with torch.no_grad():
        model.backbone.sie.table.add_(9)
        twin.backbone.sie.table.zero_()
        torch.testing.assert_close(twin.embed(images, camids), twin.embed(images))
        assert not torch.allclose(model.embed(images, camids), twin.embed(images))


def test_cameras_of_two_threads_do_not_mix():
    """While one thread is inside the network, another one embeds images of another camera."""
    model = ReidModel(ModelSpec("osnet_x0_25", SIZE, sie_camera=True, cameras=("a", "b"))).eval()
    images, second = torch.rand(2, 3, *SIZE), threading.Event()

    def embed(camera: int) -> torch.Tensor:
        with torch.no_grad():
            return model.embed(images, torch.full((2,), camera))

    with torch.no_grad():
        model.backbone.sie.table.mul_(50)
    expected = embed(0)
    with ThreadPoolExecutor(1) as pool:

        def embed_elsewhere(*_: object) -> None:
            if not second.is_set():
                second.set()
                pool.submit(embed, 1).result()

        model.backbone.net.stem.register_forward_hook(embed_elsewhere)
        torch.testing.assert_close(embed(0), expected)


def test_failed_batch_leaves_no_camera_behind():
    model = ReidModel(ModelSpec("osnet_x0_25", SIZE, sie_camera=True, cameras=("a", "b"))).eval()
    images, network = torch.rand(2, 3, *SIZE), model.backbone.net
    with torch.no_grad():
        expected = network(images)
        with pytest.raises(RuntimeError):
            model.embed(torch.rand(2, 4, *SIZE), torch.tensor([0, 1]))
        torch.testing.assert_close(network(images), expected)


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


def test_a_pixel_takes_from_all_others_by_products_of_one_number_each():
    """The long way: (B, N, 1) x (B, 1, N) products over N pixels, divided by N, times the values."""
    torch.manual_seed(0)
    layer, x = NonLocal(6).eval(), torch.rand(2, 6, 4, 3)
    nn.init.normal_(layer.expand[1].weight)
    query, key, value = (part(x).flatten(2) for part in (layer.query, layer.key, layer.value))
    gathered = query.mT @ key / 12 @ value.mT
    torch.testing.assert_close(layer(x), x + layer.expand(gathered.mT.unflatten(2, (4, 3))))


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
    with pytest.raises(ValueError, match=r"not in the model: backbone.net.global_pool.p.* Set MODEL.POOL"):
        load_weights(ReidModel(ModelSpec("resnet50_ibn_fastreid", SIZE)), path, strict=False)


def test_generalised_mean_is_the_mean_for_1_and_nearly_the_maximum_for_many():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert GeneralizedMean(1.0)(x).item() == pytest.approx(3.0)
    assert GeneralizedMean(40.0)(x).item() == pytest.approx(6.0, rel=0.05)


def test_the_last_stage_keeps_its_grid():
    assert registry.create_net("resnet50_stride1", num_classes=0).forward_features(torch.zeros(1, 3, *SIZE)).shape[
        2:
    ] == (
        4,
        2,
    )


def test_gem_is_refused_where_there_is_none():
    with pytest.raises(ValueError, match=r"MODEL.POOL gem: only for our resnet50_\* backbones, not osnet_x0_25"):
        ReidModel(ModelSpec("osnet_x0_25", SIZE, pool="gem"))


# --- CLIP-ReID ----------------------------------------------------------------------------------------------------


def clip_reid(dim: int = 16, projection: int = 8, depth: int = 2) -> Shapes:
    """CLIP-ReID's build_transformer with ViT-B-16, at 64x32 pixels."""
    tower: Shapes = {"conv1.weight": (dim, 3, 16, 16), "class_embedding": (dim,), "positional_embedding": (9, dim)}
    tower |= {**norm("ln_pre", dim, False), **norm("ln_post", dim, False), "proj": (dim, projection)}
    for i in range(depth):
        block = f"transformer.resblocks.{i}"
        tower |= {f"{block}.attn.in_proj_weight": (3 * dim, dim), f"{block}.attn.in_proj_bias": (3 * dim,)}
        tower |= {**linear(f"{block}.attn.out_proj", dim, dim), **norm(f"{block}.ln_1", dim, False)}
        tower |= {**linear(f"{block}.mlp.c_fc", 4 * dim, dim), **linear(f"{block}.mlp.c_proj", dim, 4 * dim)}
        tower |= norm(f"{block}.ln_2", dim, False)
    return {
        **{f"image_encoder.{name}": shape for name, shape in tower.items()},
        "classifier.weight": (5, dim),
        "classifier_proj.weight": (5, projection),
        "cv_embed": (2, dim),
        **norm("bottleneck", dim),
        **norm("bottleneck_proj", projection),
        "prompt_learner.cls_ctx": (5, 4, 8),
        "text_encoder.ln_final.weight": (8,),
    }


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
    with pytest.raises(ValueError, match=r"Set .*MODEL.SIE_CAMERA, MODEL.SIE_VIEW, MODEL.PROJECTION"):
        load_weights(ReidModel(replace(CLIP, projection=0)), path)


def test_side_information_of_the_class_token_leaves_the_patches_alone():
    model = ReidModel(replace(CLIP, sie_camera=True, sie_tokens="class", cameras=("a", "b"))).eval()
    first, second = (model.backbone.embed_tokens(torch.zeros(1, 3, *SIZE), torch.tensor([i]), None) for i in (0, 1))
    assert torch.equal(first[:, 1:], second[:, 1:])
    assert not torch.equal(first[:, 0], second[:, 0])
    with pytest.raises(ValueError, match="MODEL.SIE_TOKENS class: needs MODEL.POOL token"):
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
    with pytest.raises(
        ValueError, match=r"MODEL.STRIDE_SIZE: MODEL.STEM ics halves the image first, .* got \(15, 15\)"
    ):
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


def test_windows_are_filled_up_before_they_are_shifted():
    """The same as a padded image's block, cut back; timm's own shifts first."""
    torch.manual_seed(0)
    net = semantic_swin("swin_tiny_patch4_window7_224", 0.2, img_size=(64, 32), num_classes=0).eval()
    block, x = net.layers[0].blocks[1], torch.rand(1, 16, 8, 96)
    assert block.window_size == (7, 7) and block.shift_size == (3, 3)
    padded = nn.functional.pad(x, (0, 0, 0, 6, 0, 5))
    torch.testing.assert_close(block._attn(x), block._attn(padded)[:, :16, :8])


def test_features_are_scaled_and_shifted_by_what_the_semantic_weight_says():
    layer = PatchMerging(2, 4)
    modulated = Modulated(layer, semantic_weight=0.25)
    modulated.scale.weight.fill_(0.0).add_(torch.tensor([[4.0, 0.0]]))
    modulated.shift.weight.fill_(0.0).add_(torch.tensor([[0.0, 8.0]]))
    x = torch.rand(1, 4, 2, 2)
    torch.testing.assert_close(modulated(x), layer(x) * np.log(1 + np.e) + 6.0)  # softplus(0.25 * 4), 0.75 * 8
    assert not modulated.scale.weight.requires_grad


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
    """R50+ViT-B_16.npz's root and the like of its units, for the tower that timm's small one has not."""
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


class Evil:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_tensors_are_taken_out_of_an_old_file_without_running_it(tmp_path: Path):
    state = {"weight": torch.rand(3), "half": nn.Parameter(torch.rand(2).half())}
    content = {
        "state_dict": state,
        "args": argparse.Namespace(lr=0.1),
        "best": np.float64(0.9),
        "x": Evil(tmp_path / "made"),
    }
    for number, zipped in enumerate((True, False)):
        path = tmp_path / f"old{number}.pth.tar"
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=r"it is refused.*convert.py --plain"):
            read_weights(path)
        tensors = read_weights(path, plain=True).tensors
        assert tensors.keys() == state.keys() and torch.equal(tensors["half"], state["half"])
    assert not (tmp_path / "made").exists()


def test_files_that_torch_would_run_or_unpack_are_refused(tmp_path: Path):
    """A TorchScript archive, whose code would run, and torch's first format, a tar archive, which would be unpacked."""
    script, archive = tmp_path / "script.pth", tmp_path / "old.pth"
    torch.save({"x": Evil(tmp_path / "made")}, script)
    with zipfile.ZipFile(script, "a") as zipped:
        zipped.writestr("script/constants.pkl", b"")
    (tmp_path / "storages").write_bytes(b"")
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "storages", "storages")
    for plain in (True, False):
        with pytest.raises(ValueError, match=r"script.pth is a TorchScript archive, which is code.*state_dict"):
            read_weights(script, plain)
        with pytest.raises(ValueError, match=r"old.pth is a tar archive.*unpack"):
            read_weights(archive, plain)
    assert not (tmp_path / "made").exists()


def test_containers_of_old_files_are_read(tmp_path: Path):
    content = {"model": collections.defaultdict(list, weight=torch.ones(2)), "x": argparse.Namespace(net=nn.ReLU())}
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_weights(tmp_path / "old.pth", plain=True).tensors["weight"].tolist() == [1, 1]


def test_a_damaged_npz_is_named(tmp_path: Path):
    """A broken stream of packed numbers, and one that ends early."""
    np.savez_compressed(tmp_path / "x.npz", a=np.random.default_rng(0).random(1000))
    whole = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(whole[:500] + b"\xff" * 40 + whole[540:])
    with pytest.raises(ValueError, match="x.npz is damaged"):
        read_weights(tmp_path / "x.npz")


def test_half_a_clip_reid_file_is_named(tmp_path: Path):
    state = {name: value for name, value in filled(clip_reid()).items() if not name.startswith("bottleneck_proj.")}
    with pytest.raises(ValueError, match="with bottleneck.weight and without bottleneck_proj.weight"):
        load_weights(ReidModel(CLIP), saved(tmp_path / "clip.pth", state))


def test_npz_with_objects_is_refused(tmp_path: Path):
    np.savez(tmp_path / "x.npz", a=np.array([Evil(tmp_path / "made")], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="x.npz is damaged or holds more than arrays of numbers"):
        read_weights(tmp_path / "x.npz")
    assert not (tmp_path / "made").exists()


def test_coverage_decides_whether_a_lack_is_an_error(tmp_path: Path):
    state = {name: value for name, value in filled(torchreid_osnet()).items() if not name.startswith("fc.1.")}
    path, model = saved(tmp_path / "osnet.pth", state), ReidModel(ModelSpec("osnet_x0_25", SIZE))
    with pytest.raises(ValueError, match=r"4 not in the file: backbone.net.embedding.1.weight"):
        load_weights(model, path, strict=False)
    with pytest.raises(ValueError, match="not in the file"):
        load_weights(model, path, strict=False, min_coverage=0.999)
    report = load_weights(model, path, strict=False, min_coverage=0.98)
    assert 0.98 < report.coverage < 0.999 and len(report.missing) == 8  # and the neck's four


def test_coverage_excuses_nothing_but_the_backbone(tmp_path: Path):
    """A strict import without the neck is an error, whatever share of the backbone is asked for."""
    path, model = saved(tmp_path / "osnet.pth", filled(torchreid_osnet())), ReidModel(ModelSpec("osnet_x0_25", SIZE))
    with pytest.raises(ValueError, match=r"4 not in the file: neck.weight.*Set MODEL.NECK"):
        load_weights(model, path, min_coverage=0.5)
    lacking = {name: value for name, value in filled(torchreid_osnet()).items() if not name.startswith("conv5.")}
    with pytest.raises(ValueError, match=r"gives 9\d\.\d\d% of the backbone, 99.90% are asked for"):
        load_weights(model, saved(tmp_path / "less.pth", lacking), strict=False, min_coverage=0.999)


WORDS = ["MODEL.NAME", "osnet_x0_25", "MODEL.DROP_PATH", "0.0", "MODEL.NECK", "no", "INPUT.SIZE_TRAIN", "(64, 32)"]


def test_converted_file_explains_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, target = saved(tmp_path / "in.pth", filled(torchreid_osnet())), tmp_path / "out.safetensors"
    words = [*WORDS, "INPUT.SIZE_TEST", "(64, 32)"]
    assert convert.main([str(source), "--dry-run", *words]) == 0
    assert not target.exists()
    assert "torchreid's OSNet names" in capsys.readouterr().out
    assert convert.main([str(source), str(tmp_path / "no" / "out.safetensors"), *words]) == 2
    assert "does not exist; make it first" in capsys.readouterr().err
    assert convert.main([str(source), str(target), *words]) == 0
    model, about = load_deploy(target)
    assert (model.spec.name, about["source"]) == ("osnet_x0_25", "in.pth (torchreid's OSNet)")
    assert convert.main([str(source), str(target), *words]) == 2
    assert "add --overwrite" in capsys.readouterr().err


def test_conversion_says_how_many_cameras_to_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, target = saved(tmp_path / "clip.pth", filled(clip_reid())), tmp_path / "out.safetensors"
    words = ["MODEL.NAME", CLIP.name, "MODEL.EMBED_DIM", "16", "MODEL.DEPTH", "2", "MODEL.NUM_HEADS", "2"]
    words += ["MODEL.PROJECTION", "8", "MODEL.SIE_CAMERA", "True", "MODEL.SIE_TOKENS", "class"]
    words += ["INPUT.SIZE_TRAIN", "(64, 32)", "INPUT.SIZE_TEST", "(64, 32)"]
    assert convert.main([str(source), str(target), "--cameras", "a", *words]) == 2
    assert "the file has a row for each of 2 cameras" in capsys.readouterr().err
    assert convert.main([str(source), str(target), "--cameras", "a,b", *words]) == 0
    assert load_deploy(target)[0].spec.cameras == ("a", "b")
