"""Folders of Hugging Face: which files hold the weights (one, or shards with an index), and what config.json says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...common.errors import UserError
from ...common.inputs.regular_files import read_json

WEIGHTS = (  # names of a folder's weights, the first that exists counts
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
CONFIGS = ("config.json", "open_clip_config.json")
OF_MODELS = {"model_type", "architecture", "architectures", "model_cfg"}  # keys of a model's config
PIXELS = "preprocessor_config.json"


def weight_files(path: Path) -> list[Path]:
    """Return the files that hold the weights: `path` itself, those of a folder, or those that an index names.

    Raises:
        FileNotFoundError: nothing there, or no weights in the folder; ValueError: an index that cannot be used.
    """
    if path.is_dir():
        found = [path / name for name in WEIGHTS if (path / name).is_file()]
        if not found:
            raise FileNotFoundError(f"{path}: no such weight file (it is a folder, without {', '.join(WEIGHTS[:-2])})")
        path = found[0]
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such weight file")
    return _shards(path) if path.name.endswith(".index.json") else [path]


def _shards(index: Path) -> list[Path]:
    names = _json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise UserError(
            f"{index} has no weight_map, so it is not the index of a model in several files; name the weight file"
        )
    shards = [index.parent / str(name) for name in dict.fromkeys(names.values())]
    outside = [shard for shard in shards if shard.parent != index.parent]
    if outside:
        raise UserError(
            f"{index} names {outside[0]}, a file outside its folder, so it is refused; download the model again"
        )
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{index.parent} lacks {len(missing)} of {len(shards)} files: {', '.join(missing[:4])}; copy them too"
        )
    return shards


def model_config(path: Path) -> dict[str, Any]:
    """Return what a config next to the weights says of the model; {} without one of transformers, timm or open_clip.

    `pixels` are mean and std of the pixels, (3,) each, if it says so.
    """
    folder = path if path.is_dir() else path.parent
    found = [config for config in (_readable(folder / name) for name in CONFIGS) if OF_MODELS & config.keys()]
    config = dict(found[0]) if found else {}
    images = _readable(folder / PIXELS) if found else {}
    stated: list[tuple[Any, Any]] = [
        (images.get("image_mean"), images.get("image_std")),
        *(
            (part.get("mean"), part.get("std"))
            for part in (config.get("pretrained_cfg"), config.get("preprocess_cfg"))
            if isinstance(part, dict)
        ),
    ]
    pixels = next(((tuple(mean), tuple(std)) for mean, std in stated if _is_triple(mean) and _is_triple(std)), None)
    return {**config, "pixels": pixels}


def _is_triple(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(one, (int, float)) for one in value)


def _readable(path: Path) -> dict[str, Any]:
    """Return a JSON object, or {} where there is none: these files only help."""
    try:
        return _json(path)
    except (OSError, UserError):
        return {}


def _json(path: Path) -> dict[str, Any]:
    content = read_json(path)
    return content if isinstance(content, dict) else {}
