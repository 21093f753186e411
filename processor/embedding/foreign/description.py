"""What a model file expects of its images: read from the file, from a small JSON file next to it, and from options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from ....common.errors import UserError, choose
from ....datasets import Preprocess
from ....datasets.loading.preprocess import INTERPOLATIONS
from .model_file import ModelFile

RGB, BGR, ORDERS = "rgb", "bgr", ("rgb", "bgr")
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
KINDS: dict[str, dict[str, Any]] = {  # short names of usual inputs
    "imagenet": {"channels": RGB, "scale": 1, "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD},
    "half": {"channels": RGB, "scale": 1, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    "rgb1": {"channels": RGB, "scale": 1, **PLAIN},
    "bgr1": {"channels": BGR, "scale": 1, **PLAIN},
    "rgb255": {"channels": RGB, "scale": 255, **PLAIN},
    "bgr255": {"channels": BGR, "scale": 255, **PLAIN},
}
DEFAULTS = {**PLAIN, "resize": "bilinear"}


@dataclass(frozen=True)
class Description:
    """The input and the output of a model file. The keys of its JSON file have these names, and `input`, a key of `KINDS`.

    Args:
        size: (height, width) in pixels.
        channels: order of the channels, rgb or bgr.
        scale: value of the brightest pixel before mean and std: 255 or 1.
        mean, std: per channel, in the order of `channels`; the input is (pixel - mean) / std.
        resize: filter, as `Preprocess.interpolation`; bilinear is OpenCV's INTER_LINEAR.
        normalize, flip: see `EmbedSettings`.
        cameras: names of the cameras that the second input numbers from 0.
        unknown_camera: number for any other camera; None = there is none.
        output: name of the output that has the embeddings; "" = the only one.
        runtime: a key of `RUNTIMES`; "" = the usual one of the file's suffix.
        batch: number of images of each call; 0 = any, or the file's.
        name: readable name of the model; "" = the file's.
    """

    size: tuple[int, int]
    channels: str
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: str
    normalize: bool = True
    flip: bool = False
    cameras: tuple[str, ...] = ()
    unknown_camera: int | None = None
    output: str = ""
    runtime: str = ""
    batch: int = 0
    name: str = ""

    @property
    def preprocess(self) -> Preprocess:
        """Resizing, and the normalisation of RGB pixels in 0-1; the model reverses the channels afterwards."""
        step = 1 if self.channels == RGB else -1
        mean, std = ([value / self.scale for value in values[::step]] for values in (self.mean, self.std))
        return Preprocess(self.size, mean, std, self.resize)  # type: ignore[arg-type]  # made tuples there

    def to_dict(self) -> dict[str, Any]:
        """Return the values that differ from the defaults, in JSON types, so that a JSON file stays small."""
        found = {item.name: (getattr(self, item.name), item.default) for item in fields(self)}
        changed = {name: value for name, (value, default) in found.items() if value != default}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}


# --- the values that a user gives -------------------------------------------------------------------------------------


def _size(value: Any) -> tuple[int, ...]:
    sides = value.lower().split("x") if isinstance(value, str) else value
    size = tuple(int(side) for side in sides)
    if len(size) != 2 or min(size) < 1:
        raise ValueError
    return size


def _three(value: Any) -> tuple[float, ...]:
    numbers = tuple(float(number) for number in value)
    if len(numbers) != 3:
        raise ValueError
    return numbers


def _divisors(value: Any) -> tuple[float, ...]:
    numbers = _three(value)
    if min(numbers) <= 0:
        raise ValueError
    return numbers


def _number(value: Any) -> float:
    if isinstance(value, bool) or float(value) <= 0:
        raise ValueError
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value or value < 0:
        raise ValueError
    return int(value)


def _of_type(kind: type) -> Callable[[Any], Any]:
    def accept(value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError
        return value

    return accept


def _names(value: Any) -> tuple[str, ...]:
    names = tuple(_of_type(str)(name) for name in _of_type(list)(list(value)))
    if not names or len(set(names)) < len(names) or isinstance(value, str):
        raise ValueError
    return names


def _one_of(accepted: tuple[str, ...]) -> Callable[[Any], str]:
    def accept(value: Any) -> str:
        if value not in accepted:
            raise ValueError
        return str(value)

    return accept


ACCEPTED: dict[str, tuple[Callable[[Any], Any], str]] = {  # key -> its check, and what it accepts
    "size": (_size, "[height, width] or HEIGHTxWIDTH, e.g. [256, 128]"),
    "channels": (_one_of(ORDERS), "rgb or bgr"),
    "scale": (_number, "a number above 0: 255 or 1"),
    "mean": (_three, "three numbers"),
    "std": (_divisors, "three numbers above 0"),
    "resize": (_one_of(INTERPOLATIONS), f"one of {', '.join(INTERPOLATIONS)}"),
    "normalize": (_of_type(bool), "true or false"),
    "flip": (_of_type(bool), "true or false"),
    "cameras": (_names, 'a list of different names, e.g. ["c1", "c2"]'),
    "unknown_camera": (_of_type(int), "a whole number"),
    "output": (_of_type(str), "the name of an output"),
    "runtime": (_of_type(str), "a text"),
    "batch": (_count, "a whole number, 0 = any"),
    "name": (_of_type(str), "a text"),
}


def accept(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return checked values of a `Description`, with `input` replaced by what it stands for.

    Raises:
        UserError: an unknown key, or a value that is not accepted; names source, key and what is accepted.
    """
    if unknown := sorted(set(values) - set(ACCEPTED) - {"input"}):
        raise UserError(f"{source}: unknown key {unknown[0]!r}; choose from {', '.join(['input', *ACCEPTED])}")
    kind = dict(choose(f"{source}: input", values["input"], KINDS)) if "input" in values else {}
    found = {}
    for key, value in ({**kind, **values}).items():
        if key == "input":
            continue
        check, accepted = ACCEPTED[key]
        try:
            found[key] = check(value)
        except (ValueError, TypeError) as error:
            raise UserError(f"{source}: {key} is {value!r}; accepted: {accepted}") from error
    return found


# --- the values that a file gives -------------------------------------------------------------------------------------


def values_of(file: ModelFile) -> dict[str, tuple[Any, str]]:
    """Return what the file itself says, and where: its notes, or its shape, type and other metadata."""
    if file.notes:
        return {key: (value, "its own metadata") for key, value in _noted(file.notes).items()}
    found = {key: (value, "its metadata") for key, value in file.hints.items()}
    if file.images.dtype == "uint8":
        found |= {key: (value, "its uint8 input") for key, value in {"scale": 255, **PLAIN}.items()}
    height, width = file.size
    return found | ({"size": ((height, width), "its shape")} if height and width else {})


def _noted(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description that the metadata of `vitreid export-model` contains; neck, flip etc. are inside the file."""
    about, embed = notes["input"], notes["embed"]
    normalisation = {"mean": about["mean"], "std": about["std"]} if "mean" in about else PLAIN
    cameras = {"cameras": notes["cameras"], "unknown_camera": -1} if "cameras" in about else {}
    return {
        "size": tuple(about["size"]),
        "channels": RGB,
        "scale": 1 if "mean" in about else 255,
        **{key: tuple(value) for key, value in normalisation.items()},
        "resize": about["interpolation"],
        "normalize": embed["normalize"],
        "flip": embed["flip"],
        **{key: tuple(value) if key == "cameras" else value for key, value in cameras.items()},
        "name": notes["model"],
    }


def describe(file: ModelFile, given: Mapping[str, Mapping[str, Any]], sidecar: Path) -> tuple[Description, str]:
    """Return the description, and a sentence for the log that says where each part comes from.

    Args:
        given: source -> checked values; a later source overrides an earlier one.
        sidecar: the JSON file that could say more, for the message.
    Raises:
        UserError: size, channels or scale are missing, or a value contradicts what the file says itself.
    """
    own = values_of(file)
    fixed = own.keys() - ({"name"} if file.notes else file.hints.keys())  # hints are conclusions
    found = {**{key: (value, "usual") for key, value in DEFAULTS.items()}, **own}
    for source, values in given.items():
        for key, value in values.items():
            if key in fixed and own[key][0] != value:
                raise UserError(
                    f"{source}: {key} is {value}, {file.path} says {own[key][0]} ({own[key][1]}); leave it out"
                )
            found[key] = (value, source)
    if missing := [key for key in ("size", "channels", "scale") if key not in found]:
        raise UserError(
            f"{file.path} does not say how its images are prepared ({', '.join(missing)} missing): add --embedder-input "
            f"{'|'.join(KINDS)}{' and --embedder-size HEIGHTxWIDTH' if 'size' in missing else ''}, or write {sidecar}, e.g. "
            '{"size": [256, 128], "channels": "bgr", "scale": 255, "mean": [0, 0, 0], "std": [1, 1, 1]}'
        )
    description = Description(**{key: value for key, (value, _) in found.items()})
    _check(file, description)
    return description, sentence(description, {key: source for key, (_, source) in found.items()})


def _check(file: ModelFile, description: Description) -> None:
    if len(file.inputs) == 2 and not description.cameras:
        raise UserError(
            f"{file.path} has a second input, {file.inputs[1]}: name the cameras that it numbers from 0 in its JSON file, "
            'e.g. {"cameras": ["c1", "c2"], "unknown_camera": 0}'
        )
    if description.cameras and len(file.inputs) < 2:
        raise UserError(f"{file.path} takes images only, and cameras are named; leave them out")
    if file.batch and description.batch not in (0, file.batch):
        raise UserError(f"batch is {description.batch}, {file.path} takes {file.batch} images; leave it out")


def sentence(description: Description, sources: Mapping[str, str]) -> str:
    """Return size, channels, values and filter with the source of each."""
    height, width = description.size
    plain = (description.mean, description.std) == (PLAIN["mean"], PLAIN["std"])
    values = f"0 to {description.scale:g}"
    values += "" if plain else f", mean {_short(description.mean)}, std {_short(description.std)}"
    parts = {
        "size": f"{height} x {width} pixels",
        "channels": description.channels.upper(),
        "scale": values,
        "resize": f"resized {description.resize}",
    }
    return ", ".join(f"{text} ({sources[key]})" for key, text in parts.items())


def _short(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:.4g}" for value in values)
