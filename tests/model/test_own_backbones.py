"""Our own backbones: published sizes, timm's interface, cameras, parts by eye."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from foreign_files import SIZE
from timm.models.swin_transformer import PatchMerging
from torch import nn

from vitreid.model import ModelSpec, ReidModel
from vitreid.model.backbones import registry
from vitreid.model.backbones.osnet import OSNet
from vitreid.model.backbones.resnet import GeneralizedMean, NonLocal
from vitreid.model.backbones.swin import Modulated, semantic_swin
from vitreid.model.backbones.t2t import Performer, Softmax, sinusoids, t2t_vit


@pytest.mark.parametrize(
    ("name", "millions"), [("osnet_x1_0", 2.2), ("osnet_x0_75", 1.3), ("osnet_x0_5", 0.6), ("osnet_x0_25", 0.2)]
)
def test_osnet_has_the_published_number_of_parameters(name: str, millions: float):
    count = sum(parameter.numel() for parameter in registry.create_net(name).parameters())
    assert round(count / 1e6, 1) == millions  # table 7 of the paper


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
    with pytest.raises(ValueError, match="'osnet_x1_1'.*osnet_x1_0"):
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
    with pytest.raises(ValueError, match=r"MODEL\.STEM, MODEL\.STRIDE_SIZE.*t2t_vit_7"):
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
    with pytest.raises(ValueError, match=r"MODEL\.SIE_CAMERA, MODEL\.SIE_VIEW.*vgg11.*layer1"):
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


def test_a_pixel_takes_from_all_others_by_products_of_one_number_each():
    """The long way: (B, N, 1) x (B, 1, N) products over N pixels, divided by N, times the values."""
    torch.manual_seed(0)
    layer, x = NonLocal(6).eval(), torch.rand(2, 6, 4, 3)
    nn.init.normal_(layer.expand[1].weight)
    query, key, value = (part(x).flatten(2) for part in (layer.query, layer.key, layer.value))
    gathered = query.mT @ key / 12 @ value.mT
    torch.testing.assert_close(layer(x), x + layer.expand(gathered.mT.unflatten(2, (4, 3))))


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
    with pytest.raises(ValueError, match=r"MODEL\.POOL gem.*osnet_x0_25"):
        ReidModel(ModelSpec("osnet_x0_25", SIZE, pool="gem"))


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
