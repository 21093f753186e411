"""Names of MobileNets and EfficientNets -> timm's: torchvision's, and those of lukemelas' EfficientNet-PyTorch.

The convolutions of a block are recognised by number and shape: expansion, depthwise, projection; depthwise, projection; one that
is both expansion and depthwise, projection; or a single one.
"""

from __future__ import annotations

import re
from itertools import groupby

from .key_names import IMAGENET, Hints, RenamedWeights, State, in_backbone, renamed

ROLES = {  # number of convolutions, whether the first is depthwise -> their names in timm
    (3, False): ("conv_pw", "conv_dw", "conv_pwl"),
    (2, True): ("conv_dw", "conv_pw"),
    (2, False): ("conv_exp", "conv_pwl"),
    (1, False): ("conv",),
}
SQUEEZE = {  # layers of squeeze and excitation, in torchvision and in lukemelas' package
    "fc1": "se.conv_reduce",
    "fc2": "se.conv_expand",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
}
LARGER_EPS = 1e-3  # what torchvision's MobileNetV3, EfficientNet-B5 to B7 and V2 add to the variance; timm adds 1e-5
WIDTH_OF_B5 = 2048
LUKEMELAS = (
    (r"^_conv_stem\.", "conv_stem."),
    (r"^_bn0\.", "bn1."),
    (r"^_conv_head\.", "conv_head."),
    (r"^_bn1\.", "bn2."),
    (r"^_fc\.", "classifier."),
)
LUKEMELAS_BLOCK = (
    "_expand_conv",
    "_bn0",
    "_depthwise_conv",
    "_bn1",
    "_project_conv",
    "_bn2",
)  # in the order of the layers
MOBILENETS = ("mobilenetv2_100", "mobilenetv3_large_100", "mobilenetv3_small_100")
EFFICIENTNETS = (*(f"efficientnet_b{number}" for number in range(8)), *(f"efficientnetv2_{size}" for size in "sml"))
SAME_PADDED = (  # as TensorFlow pads, and so lukemelas
    *(f"tf_efficientnet_lite{number}" for number in range(5)),
    *(f"tf_efficientnet_b{number}" for number in range(9)),
)

Layers = dict[str, State]  # path of a layer in its block -> its tensors


def torchvision_mobilenet(state: State) -> RenamedWeights:
    """MobileNetV2, also under the flat names of its first versions, and MobileNetV3: all blocks in one list."""
    numbers = sorted({int(name.split(".")[1]) for name in state if name.startswith("features.")})
    first, *middle, last = [_layers(state, f"features.{number}.") for number in numbers]
    hidden = {name.removeprefix("classifier.0."): value for name, value in state.items() if "classifier.0." in name}
    result = _conv_and_norm(first, "conv_stem", "bn1")
    stages = [
        list(group) for _, group in groupby(middle, key=_width)
    ]  # every stage has another width than the last one
    result |= _staged(stages)
    if hidden:  # MobileNetV3: the last convolution ends the blocks, and a linear layer follows the pooling
        result |= _conv_and_norm(last, f"blocks.{len(stages)}.0.conv", f"blocks.{len(stages)}.0.bn1")
        result |= {
            f"conv_head.{what}": value[..., None, None] if value.ndim == 2 else value for what, value in hidden.items()
        }
    else:
        result |= _conv_and_norm(last, "conv_head", "bn2")
    is_v3 = any(".fc1." in name for name in state)
    left_out = tuple(name for name in state if re.match(r"classifier\.[1-9]", name))
    hints = Hints(pixels=IMAGENET, norm_eps=LARGER_EPS if is_v3 else 0.0, names=MOBILENETS)
    return in_backbone(result, left_out, hints)


def torchvision_efficientnet(state: State) -> RenamedWeights:
    """EfficientNet B0 to B7 and V2: blocks by stages."""
    numbers = sorted({int(name.split(".")[1]) for name in state if name.startswith("features.")})
    first, last = (_layers(state, f"features.{number}.") for number in (numbers[0], numbers[-1]))
    stages = []
    for number in numbers[1:-1]:
        blocks = sorted({int(name.split(".")[2]) for name in state if name.startswith(f"features.{number}.")})
        stages.append([_layers(state, f"features.{number}.{block}.") for block in blocks])
    result = {
        **_conv_and_norm(first, "conv_stem", "bn1"),
        **_staged(stages),
        **_conv_and_norm(last, "conv_head", "bn2"),
    }
    is_fused = not any(".fc1." in name for name in state if name.startswith("features.1."))
    is_larger = is_fused or len(result["bn2.weight"]) >= WIDTH_OF_B5
    hints = Hints(pixels=IMAGENET, norm_eps=LARGER_EPS if is_larger else 0.0, names=EFFICIENTNETS)
    return in_backbone(result, tuple(name for name in state if name.startswith("classifier.")), hints)


def lukemelas_efficientnet(state: State) -> RenamedWeights:
    """EfficientNet-PyTorch, and its Lite variant without squeeze and excitation."""
    numbers = sorted({int(name.split(".")[1]) for name in state if name.startswith("_blocks.")})
    result = renamed({name: value for name, value in state.items() if not name.startswith("_blocks.")}, LUKEMELAS)
    blocks = []
    for number in numbers:
        found = _layers(state, f"_blocks.{number}.")
        ordered = {path: found[path] for path in LUKEMELAS_BLOCK if path in found}
        blocks.append({**ordered, **{path: found[path] for path in found if path not in ordered}})
    result |= _staged([list(group) for _, group in groupby(blocks, key=_width)])
    left_out = tuple(name for name in state if name.startswith("_fc."))
    result = {name: value for name, value in result.items() if not name.startswith("classifier.")}
    return in_backbone(result, left_out, Hints(names=SAME_PADDED))


def _layers(state: State, prefix: str) -> Layers:
    """Return the layers below a prefix in the order of their numbers."""
    found: Layers = {}
    for name, value in state.items():
        if name.startswith(prefix):
            path, _, what = name.removeprefix(prefix).rpartition(".")
            found.setdefault(path, {})[what] = value
    return dict(
        sorted(found.items(), key=lambda item: [int(word) if word.isdecimal() else 0 for word in item[0].split(".")])
    )


def _convolutions(block: Layers) -> list[State]:
    return [layer for path, layer in block.items() if layer["weight"].ndim == 4 and not _squeeze(path)]


def _squeeze(path: str) -> str:
    """Return timm's name of a layer of squeeze and excitation, or nothing."""
    return SQUEEZE.get(path.rpartition(".")[2], "")


def _width(block: Layers) -> int:
    return len(_convolutions(block)[-1]["weight"])


def _staged(stages: list[list[Layers]]) -> State:
    result: State = {}
    for number, blocks in enumerate(stages):
        for index, block in enumerate(blocks):
            result |= _block(block, f"blocks.{number}.{index}.")
    return result


def _block(block: Layers, prefix: str) -> State:
    """Return one block under timm's names; a norm follows each of its convolutions."""
    convolutions = _convolutions(block)
    is_depthwise = convolutions[0]["weight"].shape[1] == 1
    roles = iter(ROLES.get((len(convolutions), is_depthwise), ()))
    result, count = {}, 0
    for path, layer in block.items():
        if _squeeze(path):
            name = _squeeze(path)
        elif layer["weight"].ndim == 4:
            name, count = next(roles, path), count + 1
        else:
            name = f"bn{count}"
        result.update({f"{prefix}{name}.{what}": value for what, value in layer.items()})
    return result


def _conv_and_norm(layers: Layers, conv: str, norm: str) -> State:
    first, second = layers.values()
    return {
        **{f"{conv}.{what}": value for what, value in first.items()},
        **{f"{norm}.{what}": value for what, value in second.items()},
    }
