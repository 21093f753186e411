"""Models of other projects, built by the projects' code from their checkouts, with random weights.

Each has the spec of our corresponding model, and a function that packs its weights in the project's release format. Packages of
different projects share names (`model`), so one process handles one project.
"""

from __future__ import annotations

import collections.abc
import math
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple, cast

import timm
import torch
import yaml
from torch import Tensor, nn

from vitreid.benchmarks.common.checkouts import Checkout
from vitreid.model import ModelSpec
from vitreid.model.backbones.registry import has_fixed_size

CAMERAS = tuple(f"market1501/c{number}" for number in range(1, 7))
NUM_PEOPLE = 751  # classes of the classifiers, as in Market-1501
SQUARE = (224, 224)
STUBS = ("mmcv", "mmcv.runner", "faiss", "termcolor", "tabulate")
REPLACED = {  # modules that torch no longer has, or that CLIP needs for text only
    "torch._six": SimpleNamespace(container_abcs=collections.abc),
    "model.clip.simple_tokenizer": SimpleNamespace(SimpleTokenizer=object),
}
VIT_B_RECIPE = yaml.safe_load("""{
    NAME: transformer, TRANSFORMER_TYPE: vit_base_patch16_224_TransReID, STRIDE_SIZE: [16, 16], FEAT_DIM: 512,
    PRETRAIN_PATH: '', PRETRAIN_CHOICE: none, LAST_STRIDE: 1, COS_LAYER: false, NECK: bnneck, ID_LOSS_TYPE: softmax,
    SIE_CAMERA: false, SIE_VIEW: false, SIE_COE: 3.0, REDUCE_FEAT_DIM: false,
    JPM: false, SHUFFLE_GROUP: 2, SHIFT_NUM: 5, DEVIDE_LENGTH: 4, RE_ARRANGE: true,
    DROP_PATH: 0.1, DROP_OUT: 0.0, ATT_DROP_RATE: 0.0, DROPOUT_RATE: 0.0,
}""")  # the section MODEL that the original reads
Embed = Callable[[Tensor, Tensor], Tensor]
State = dict[str, Any]


class ProjectModel(NamedTuple):
    """A model of another project in evaluation mode.

    Args:
        module: all of its weights.
        embed: images (B, 3, H, W) and cameras (B,) -> embeddings (B, D), by its code.
        spec: of our model for the same weights.
        pack: the state dict -> the content of a file as the project releases it.
    """

    module: nn.Module
    embed: Embed
    spec: ModelSpec
    pack: Callable[[State], State] = dict


@dataclass(frozen=True)
class ProjectCase:
    """A kind of weight file.

    Args:
        project: project of the checkout, a key of `PROJECTS`; "timm" is installed.
        build: checkout -> model.
        quick: whether the short run includes it.
        strict: whether the file has neck and side information too.
    """

    project: str
    build: Callable[[Checkout], ProjectModel]
    quick: bool = False
    strict: bool = True


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Draw every parameter and statistic at random (none is 0 or 1, no two are equal), with activations of usual size."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.copy_(_drawn(name, value, generator))


def _drawn(name: str, value: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(value.shape, generator=generator)
    if name.endswith("running_var"):
        return 1 + 0.2 * noise.abs()
    if value.ndim >= 2 and name.endswith(("weight", "W", "proj")):
        return noise / math.sqrt(value[0].numel() if name.endswith("weight") else len(value))
    if value.ndim == 1 and name.endswith("weight"):
        return 1 + 0.1 * noise
    return value + 0.1 * noise  # biases, tokens, position embeddings, random features, exponents


def _with_shims(checkout: Checkout, *names: str) -> ModuleType:
    """Import modules of old projects; the last is returned."""
    for name, replacement in REPLACED.items():
        sys.modules.setdefault(name, cast(ModuleType, replacement))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [checkout.load(name, stubs=STUBS) for name in names][-1]


def _quietly(build: Callable[..., nn.Module], *args: Any, **options: Any) -> nn.Module:
    """Build a model that prints, and draw its weights."""
    with redirect_stdout(StringIO()):
        module = build(*args, **options).eval()
    randomise(module)
    return module


def _settings(**model: Any) -> SimpleNamespace:
    """Return what the original reads of its config, with the values of its ViT-B recipe."""
    return SimpleNamespace(
        MODEL=SimpleNamespace(**{**VIT_B_RECIPE, **model}),
        INPUT=SimpleNamespace(SIZE_TRAIN=[256, 128]),
        TEST=SimpleNamespace(NECK_FEAT="after"),
        SOLVER=SimpleNamespace(COSINE_SCALE=30, COSINE_MARGIN=0.5),
    )


def transreid(checkout: Checkout, kind: str, name: str, stride: int = 16, **parts: bool) -> ProjectModel:
    """A TransReID model of its factory, as its training saves it.

    Args:
        kind, name: of the transformer, there and here.
        parts: SIE_CAMERA, JPM.
    """
    module = _with_shims(checkout, "loss.metric_learning", "model.make_model")
    cfg = _settings(TRANSFORMER_TYPE=kind, STRIDE_SIZE=[stride, stride], **parts)
    model = _quietly(module.make_model, cfg, NUM_PEOPLE, len(CAMERAS), 1)
    has_sie, has_jpm = parts.get("SIE_CAMERA", False), parts.get("JPM", False)
    spec = ModelSpec(name, (256, 128), (stride, stride), sie_camera=has_sie, cameras=CAMERAS, jpm=has_jpm)
    return ProjectModel(model, lambda images, camids: model(images, cam_label=camids, view_label=camids * 0), spec)


def transreid_ssl(checkout: Checkout, name: str, ics: bool) -> ProjectModel:
    """A model of TransReID-SSL, fine-tuned; with the IBN stem or without. PersonViT's files are of the same kind."""
    inner = Checkout(checkout.folder / "transreid_pytorch")
    module = _with_shims(inner, "loss.metric_learning", "model.make_model")
    cfg = _settings(TRANSFORMER_TYPE=f"{name}_TransReID", GEM_POOLING=False, STEM_CONV=ics)
    model = _quietly(module.make_model, cfg, NUM_PEOPLE, 0, 0)
    spec = ModelSpec(name, stem="ics" if ics else "patch")
    return ProjectModel(model, lambda images, camids: model(images), spec)


def pass_reid(checkout: Checkout, size: str) -> ProjectModel:
    """The backbone of PASS as its pretraining keeps it; its class token is compared."""
    inner = Checkout(checkout.folder / "PASS_transreid")
    module = _with_shims(inner, "model.backbones.vit_pytorch")
    model: Any = _quietly(getattr(module, f"vit_{size}_patch16_224_TransReID"))
    return ProjectModel(model, lambda images, camids: model(images)[0], ModelSpec(f"pass_vit_{size}", neck="no"), _dino)


def clip_reid(checkout: Checkout, stride: int = 16) -> ProjectModel:
    """CLIP-ReID's ViT-B/16 with a camera embedding; the tower's matrices are kept in half precision, as CLIP's are."""
    module: Any = _with_shims(checkout, "model.clip.model", "model.make_model")
    clip = sys.modules["model.clip.model"]

    def tower(name: str, height: int, width: int, stride: int) -> SimpleNamespace:
        visual = clip.VisionTransformer(height, width, 16, stride, 768, 12, 12, 512)
        return SimpleNamespace(visual=visual, to=lambda device: None)

    module.load_clip_to_cpu = tower  # in place of a download
    cfg = _settings(NAME="ViT-B-16", SIE_CAMERA=True, SIE_COE=1.0, STRIDE_SIZE=[stride, stride])
    model = _quietly(module.make_model, cfg, NUM_PEOPLE, len(CAMERAS), 1)
    clip.convert_weights(model.image_encoder)
    model.image_encoder.float()  # as rounded, computed in float32
    spec = ModelSpec(
        "vit_base_patch16_clip_quickgelu_224",
        (256, 128),
        (stride, stride),
        projection=512,
        sie_tokens="class",
        sie_coe=1.0,
        sie_camera=True,
        cameras=CAMERAS,
    )

    def pack(state: State) -> State:
        halves = {name: value.half() for name, value in state.items() if name.startswith("image_encoder.")}
        exact = {name: half for name, half in halves.items() if torch.equal(half.float(), state[name])}
        return {**state, **exact}

    return ProjectModel(model, lambda images, camids: model(images, cam_label=camids), spec, pack)


def t2t(checkout: Checkout, name: str) -> ProjectModel:
    """T2T-ViT for square images, the only ones that it takes, as its training saves it."""
    module = _with_shims(checkout, "models.t2t_vit")
    model: Any = _quietly(getattr(module, name))
    spec = ModelSpec(name, SQUARE, neck="no")
    return ProjectModel(model, lambda images, _: model.forward_features(images), spec, lambda s: {"state_dict_ema": s})


def solider(checkout: Checkout, size: str) -> ProjectModel:
    """SOLIDER-REID's Swin with the semantic weight 0.2."""
    names = ("loss.metric_learning", "model.make_model")
    module = _with_shims(checkout, *names)
    kind = f"swin_{size}_patch4_window7_224"
    model: Any = _quietly(module.make_model, _settings(TRANSFORMER_TYPE=kind), NUM_PEOPLE, 0, 0, semantic_weight=0.2)

    def embed(images: Tensor, camids: Tensor) -> Tensor:
        weight = torch.tensor([[0.2, 0.8]]).expand(len(images), -1)  # what it makes itself lies on a GPU
        return model.bottleneck(model.base(images, weight)[0])

    return ProjectModel(model, embed, ModelSpec(f"solider_swin_{size}", (256, 128)))


def torchreid(checkout: Checkout, file: str, name: str) -> ProjectModel:
    """A model of torchreid, as its model zoo keeps it."""
    module = _with_shims(checkout, f"torchreid.models.{file}")
    model = _quietly(getattr(module, name), NUM_PEOPLE, pretrained=False)
    spec = ModelSpec(name, neck="no")
    return ProjectModel(model, lambda images, camids: model(images), spec, lambda state: {"state_dict": state})


def fast_reid(checkout: Checkout, ibn: bool, sbs: bool) -> ProjectModel:
    """fast-reid's ResNet-50 with its head: BoT, or SBS with non-local blocks and the generalised mean."""
    names = ("fastreid.modeling.backbones.resnet", "fastreid.layers.pooling")
    resnet, pooling = (_with_shims(checkout, name) for name in names)
    pool = pooling.GeneralizedMeanPoolingP() if sbs else nn.AdaptiveAvgPool2d(1)

    def build() -> nn.Module:
        backbone = resnet.ResNet(1, "BN", ibn, False, sbs, resnet.Bottleneck, [3, 4, 6, 3], [0, 2, 3, 0])
        heads = nn.Module()
        heads.pool_layer, heads.bottleneck = pool, nn.Sequential(nn.BatchNorm2d(2048))
        heads.weight = nn.Parameter(torch.zeros(NUM_PEOPLE, 2048))
        return nn.ModuleDict({"backbone": backbone, "heads": heads})

    model: Any = _quietly(build)

    def embed(images: Tensor, camids: Tensor) -> Tensor:
        return model["heads"].bottleneck(model["heads"].pool_layer(model["backbone"](images))).flatten(1)

    def pack(state: State) -> State:
        pixels = {f"pixel_{kind}": torch.zeros(1, 3, 1, 1) for kind in ("mean", "std")}
        return {"model": {**state, **pixels}}

    name = f"resnet50{'_ibn' if ibn else ''}_fastreid{'_sbs' if sbs else ''}"
    return ProjectModel(model, embed, ModelSpec(name, pool="gem" if sbs else "token"), pack)


def from_timm(
    checkout: Checkout, name: str, size: tuple[int, int], step: int = 16, container: str = ""
) -> ProjectModel:
    """A model of timm's, alone or as a file of self-supervised pretraining holds it."""
    net: Any = timm.create_model(name, pretrained=False, num_classes=0 if container else 10, **_sized(name, size))
    randomise(net.eval())
    spec = ModelSpec(name, size, (step, step), neck="no")
    has_class_token = getattr(net, "num_prefix_tokens", 0) > 0 and getattr(net, "global_pool", "") == "token"

    def embed(images: Tensor, camids: Tensor) -> Tensor:
        features = net.forward_features(images)
        return features[:, 0] if has_class_token else net.forward_head(features, pre_logits=True)

    packs: dict[str, Callable[[State], State]] = {"": dict, "teacher": _dino, "model": _mae}
    return ProjectModel(net, embed, spec, packs[container])


def _sized(name: str, size: tuple[int, int]) -> State:
    return {"img_size": size} if has_fixed_size(name) else {}


def _dino(state: State) -> State:
    heads = {"module.head.mlp.0.weight": torch.zeros(8, 8)}
    return {"teacher": {**{f"module.backbone.{name}": value for name, value in state.items()}, **heads}}


def _mae(state: State) -> State:
    return {"model": {**state, "mask_token": torch.zeros(1, 1, 8), "decoder_embed.weight": torch.zeros(8, 8)}}


PROJECTS = {  # project -> option for its checkout
    "TransReID": "--transreid",
    "CLIP-ReID": "--clipreid",
    "T2T-ViT": "--t2t",
    "SOLIDER": "--solider",
    "torchreid": "--torchreid",
    "fast-reid": "--fastreid",
    "TransReID-SSL": "--ssl",
    "PASS": "--pass",
    "timm": "",
}
VIT_B, VIT_S, DEIT_S = "vit_base_patch16_224", "vit_small_patch16_224", "deit_small_patch16_224"


def _case(project: str, build: Callable[..., ProjectModel], quick: bool = False, **options: Any) -> ProjectCase:
    return ProjectCase(project, partial(build, **options), quick, strict=build not in (pass_reid, from_timm))


def _transreid(kind: str, quick: bool = False, name: str = "", **options: Any) -> ProjectCase:
    return _case("TransReID", transreid, quick, kind=f"{kind}_TransReID", name=name or kind, **options)


def _timm(name: str, size: tuple[int, int] = SQUARE, **options: Any) -> ProjectCase:
    return _case("timm", from_timm, name=name, size=size, **options)


CASES: dict[str, ProjectCase] = {
    "TransReID ViT-B": _transreid(VIT_B),
    "TransReID ViT-B, SIE": _transreid(VIT_B, SIE_CAMERA=True),
    "TransReID ViT-B, JPM": _transreid(VIT_B, JPM=True),
    "TransReID ViT-B, SIE, JPM, stride 12": _transreid(VIT_B, True, stride=12, SIE_CAMERA=True, JPM=True),
    "TransReID ViT-S": _transreid(VIT_S, name="transreid_vit_small"),
    "TransReID DeiT-S, SIE": _transreid(DEIT_S, SIE_CAMERA=True),  # its JPM assumes a width of 768 and fails
    "CLIP-ReID ViT-B/16, SIE": _case("CLIP-ReID", clip_reid, True),
    "CLIP-ReID ViT-B/16, SIE, stride 12": _case("CLIP-ReID", clip_reid, stride=12),
    "T2T-ViT-7": _case("T2T-ViT", t2t, name="t2t_vit_7"),
    "T2T-ViT-14": _case("T2T-ViT", t2t, True, name="t2t_vit_14"),
    "T2T-ViT-t-14": _case("T2T-ViT", t2t, name="t2t_vit_t_14"),
    "SOLIDER Swin-T": _case("SOLIDER", solider, True, size="tiny"),
    "SOLIDER Swin-S": _case("SOLIDER", solider, size="small"),
    "SOLIDER Swin-B": _case("SOLIDER", solider, size="base"),
    "torchreid OSNet x1.0": _case("torchreid", torchreid, True, file="osnet", name="osnet_x1_0"),
    "torchreid OSNet x0.25": _case("torchreid", torchreid, file="osnet", name="osnet_x0_25"),
    "torchreid ResNet-50": _case("torchreid", torchreid, file="resnet", name="resnet50"),
    "torchreid ResNet-50 fc512": _case("torchreid", torchreid, file="resnet", name="resnet50_fc512"),
    "fast-reid BoT R50": _case("fast-reid", fast_reid, True, ibn=False, sbs=False),
    "fast-reid BoT R50-ibn": _case("fast-reid", fast_reid, ibn=True, sbs=False),
    "fast-reid SBS R50": _case("fast-reid", fast_reid, ibn=False, sbs=True),
    "fast-reid SBS R50-ibn": _case("fast-reid", fast_reid, ibn=True, sbs=True),
    "TransReID-SSL ViT-S": _case("TransReID-SSL", transreid_ssl, name=VIT_S, ics=False),
    "TransReID-SSL ViT-S, ICS": _case("TransReID-SSL", transreid_ssl, True, name=VIT_S, ics=True),
    "TransReID-SSL ViT-B, ICS": _case("TransReID-SSL", transreid_ssl, name=VIT_B, ics=True),
    "PASS ViT-S, backbone": _case("PASS", pass_reid, True, size="small"),
    "PASS ViT-B, backbone": _case("PASS", pass_reid, size="base"),
    "timm ViT-B/16": _timm(VIT_B),
    "timm DeiT-T distilled": _timm("deit_tiny_distilled_patch16_224"),
    "timm DeiT-III-S": _timm("deit3_small_patch16_224"),
    "timm DINOv2-S": _timm("vit_small_patch14_dinov2", step=14),
    "timm DINOv3-S": _timm("vit_small_patch16_dinov3"),
    "timm EVA-02-Ti": _timm("eva02_tiny_patch14_224", size=SQUARE),
    "timm CLIP ViT-B/16": _timm("vit_base_patch16_clip_224"),
    "timm R50+ViT-B/16": _timm("vit_base_r50_s16_224"),
    "timm Swin-T": _timm("swin_tiny_patch4_window7_224"),
    "timm SwinV2-T": _timm("swinv2_tiny_window8_256", size=(256, 256)),
    "timm ConvNeXt-T": _timm("convnext_tiny", size=(256, 128)),
    "timm ResNet-50": _timm("resnet50", size=(256, 128)),
    "DINO, TransReID-SSL ViT-S": _timm(VIT_S, container="teacher"),
    "MAE ViT-B": _timm(VIT_B, container="model"),
}
