"""Model architecture as plain values, stored as JSON in checkpoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..common.errors import UserError

MOST_SIZE, MOST_TEXT, MOST_NAMES = 2048, 200, 100_000  # of a number, a text, a list of names out of a file
MOST = {"embed_dim": 2**14, "projection": 2**16, "depth": 1000, "num_parts": 1000, "shift_num": 10_000}  # other limits


@dataclass(frozen=True)
class ModelSpec:
    """The architecture of a `ReidModel`; the same spec always builds the same layers.

    Args:
        name: timm model, e.g. `vit_base_patch16_224`.
        img_size, stride: (height, width) in pixels, of the crop and of the step between patches.
        stem: patch embedding of a ViT, a key of `STEMS`.
        embed_dim, depth, num_heads, mlp_ratio, patch_size: sizes of a ViT; 0 = those of the named model.
        activation: of a ViT's blocks; empty = that of the named model.
        pool: global feature of a ViT: `token` = class token, `avg` = mean of the patch tokens (no class token then); `gem`
            = generalised mean, for our ResNets.
        drop_path, drop_out, att_drop_rate: rates of stochastic depth, dropout, attention dropout.
        neck: `bnneck` or `no`.
        sie_camera, sie_view, sie_coe: side-information embedding and its weight.
        sie_fallback: row for cameras and views not seen in training: `mean` or `unknown`.
        sie_dropout: share of training images with hidden camera and view.
        cameras, views: names in the order of the rows of the side-information table.
        sie_tokens: tokens that get the side information: `all`, or the `class` token only.
        projection: width of a linear projection that is appended to each feature; 0 = none.
        semantic_weight: weight of semantic features in SOLIDER's Swin, 0-1.
        clip_pool: how the embeddings of the frames of a clip are weighed, a key of `FRAME_POOLS`.
        jpm, shift_num, shuffle_group, num_parts, re_arrange: jigsaw patch module, see `Jigsaw`.
    Raises:
        ValueError: side information without names, or one name twice.
    """

    name: str
    img_size: tuple[int, int] = (256, 128)
    stride: tuple[int, int] = (16, 16)
    stem: str = "patch"
    embed_dim: int = 0
    depth: int = 0
    num_heads: int = 0
    mlp_ratio: float = 0.0
    pool: str = "token"
    drop_path: float = 0.0
    drop_out: float = 0.0
    att_drop_rate: float = 0.0
    neck: str = "bnneck"
    sie_camera: bool = False
    sie_view: bool = False
    sie_coe: float = 3.0
    sie_fallback: str = "mean"
    sie_dropout: float = 0.0
    cameras: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    jpm: bool = False
    shift_num: int = 5
    shuffle_group: int = 2
    num_parts: int = 4
    re_arrange: bool = True
    sie_tokens: str = "all"
    projection: int = 0
    semantic_weight: float = 0.2
    patch_size: int = 0
    activation: str = ""
    clip_pool: str = "mean"

    def __post_init__(self) -> None:
        for key in ("img_size", "stride", "cameras", "views"):  # JSON has lists only
            object.__setattr__(self, key, tuple(getattr(self, key)))
        _check_names("MODEL.SIE_CAMERA", "cameras", self.cameras, self.sie_camera)
        _check_names("MODEL.SIE_VIEW", "viewpoints", self.views, self.sie_view)

    @property
    def num_branches(self) -> int:
        """K: the global branch, and with JPM one per part."""
        return 1 + self.num_parts if self.jpm else 1

    @property
    def title(self) -> str:
        """The name, with differences from the named model in brackets.

        >>> ModelSpec("vit_small_patch16_224", depth=2, embed_dim=256).title
        'vit_small_patch16_224 (depth 2, width 256)'
        """
        set_sizes = {"depth": self.depth, "width": self.embed_dim, "heads": self.num_heads, "MLP ratio": self.mlp_ratio}
        set_sizes["patch"] = self.patch_size
        changed = [f"{what} {value:g}" for what, value in set_sizes.items() if value]
        changed += [self.activation] if self.activation else []
        changed += [f"stem {self.stem}"] if self.stem != "patch" else []
        return f"{self.name} ({', '.join(changed)})" if changed else self.name

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def identity(self) -> dict[str, Any]:
        """Return `to_dict` without fields behind `re_arrange` that have their default value.

        These fields were added after the first galleries were made; at their defaults the model is the same as before.
        """
        names = [field.name for field in fields(self)]
        later = {field.name: field.default for field in fields(self)[names.index("re_arrange") + 1 :]}
        return {key: value for key, value in self.to_dict().items() if key not in later or value != later[key]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        """Return the spec that `to_dict` described.

        Raises:
            ValueError: a field this version does not know, or no name.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise UserError(
                f"model description: unknown fields {', '.join(unknown)}; it was written by a newer vitreid, update this one"
            )
        if "name" not in values:
            raise UserError("model description: the field 'name' (a timm model) is missing")
        for field in fields(cls):
            if field.name in values:
                _check_stored(field.name, values[field.name], "" if field.name == "name" else field.default)
        return cls(**values)


def _check_stored(name: str, value: Any, default: Any) -> None:
    """Raise UserError unless a value out of a file has the type of the field, and a possible size."""
    kinds: dict[type, tuple[type, ...]] = {float: (int, float), tuple: (list, tuple)}
    kind = type(default)
    if not isinstance(value, kinds.get(kind, (kind,))) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"model description: {name} must be {kind.__name__}, got {type(value).__name__}")
    if kind is tuple:
        is_text = name in ("cameras", "views")
        least, most = (0, MOST_NAMES) if is_text else (2, 2)
        if not least <= len(value) <= most or not all(type(item) is (str if is_text else int) for item in value):
            raise UserError(
                f"model description: {name} must be {f'up to {most} names' if is_text else 'two whole numbers'}"
            )
    numbers = value if kind is tuple and name in ("img_size", "stride") else [value] if kind in (int, float) else []
    if any(not 0 <= number <= MOST.get(name, MOST_SIZE) for number in numbers):  # NaN neither
        raise UserError(f"model description: {name} must be 0 to {MOST.get(name, MOST_SIZE)}, got {value}")
    if kind is str and len(value) > MOST_TEXT:
        raise UserError(f"model description: {name} has {len(value)} characters, up to {MOST_TEXT} are accepted")


def _check_names(key: str, what: str, names: tuple[str, ...], used: bool) -> None:
    if used and not names:
        raise UserError(f"{key}: the training set names no {what}, so there is nothing to embed; set {key} False")
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise UserError(
            f"{what}: the names {', '.join(twice)} appear more than once; each row of the table needs its own"
        )
