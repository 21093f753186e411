"""Finds the state dict in what a torch file holds, however it is wrapped: under which key, how deep, averaged or not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

CONTAINERS = (
    "state_dict",
    "model",
    "model_state_dict",
    "net",
    "network",
    "module",
    "params",
    "weights",
)  # keys to expect
BACKBONES = ("backbone", "encoder", "trunk", "visual", "vit", "extractor", "feature_extractor", "timm_model")
NETWORKS = ("base", "body", "base_encoder", "encoder_q", "online_encoder", "0")  # of self-supervision and of lists
WRAPPERS = (*CONTAINERS, *BACKBONES, *NETWORKS)
AVERAGED = {"ema", "averaged", "average", "avg", "swa", "teacher", "target"}
SECOND = {"student", "momentum", "key", "k"}  # the other of two networks, where none is called averaged
NO_MODEL = re.compile(
    r"optim|sched|scaler|loss|criterion|callback|hyper_param|rng|sampler|config|args|^opt$|head", re.I
)
INSIDE = re.compile(
    r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)  # of torch.compile, FSDP, ...
DEEPEST = 6


WORDS = {"online", "query"} | AVERAGED | SECOND | {word for name in WRAPPERS for word in name.split("_")}


class FoundState(NamedTuple):
    """Tensors by name, and where they were: empty if there was one choice."""

    tensors: dict[str, Tensor]
    note: str


class _Candidate(NamedTuple):
    path: tuple[str, ...]
    tensors: dict[str, Tensor]


def words_of(path: str) -> set[str]:
    """Return the words of a key or prefix in small letters.

    >>> sorted(words_of("state_dict_ema")), sorted(words_of("module.encoder_q."))
    (['dict', 'ema', 'state'], ['encoder', 'module', 'q'])
    """
    return {word for word in re.split(r"[\W_]+", path.lower()) if word}


def is_averaged(path: str) -> bool:
    """Return whether a key or prefix names averaged weights."""
    return bool(words_of(path) & AVERAGED)


def is_second(path: str) -> bool:
    """Return whether a key or prefix names the network that is not evaluated: a student, or a slowly moving copy."""
    return bool(words_of(path) & SECOND)


def find_state(content: Any) -> FoundState:
    """Return the state dict in the content of a torch file.

    Averaged weights are preferred, then the usual keys, then the one with the most tensors. Averaged weights of parameters alone
    get the remaining tensors, the statistics of norms, from the weights next to them.
    """
    found = [one for one in _candidates(content) if one.tensors]
    if not found:
        return FoundState({}, "")
    most = max(len(one.tensors) for one in found)
    large = [one for one in found if 2 * len(one.tensors) > most]
    chosen = min(large, key=_preference)
    plain = [one for one in large if not is_averaged(".".join(one.path))]
    tensors = chosen.tensors
    if is_averaged(".".join(chosen.path)):
        tensors = next(({**one.tensors, **tensors} for one in plain if tensors.keys() < one.tensors.keys()), tensors)
    return FoundState({clean(name): value for name, value in tensors.items()}, _note(chosen, large))


def clean(name: str) -> str:
    """Return a tensor's name without the words of torch's wrappers, and without `module.` in front.

    >>> clean("module._orig_mod.blocks.0._checkpoint_wrapped_module.norm1.weight")
    'blocks.0.norm1.weight'
    """
    name = INSIDE.sub("", name)
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def _candidates(content: Any, path: tuple[str, ...] = ()) -> Iterator[_Candidate]:
    if len(path) > DEEPEST:
        return
    if isinstance(content, (list, tuple)):
        content = {str(number): item for number, item in enumerate(content) if isinstance(item, Mapping)}
    if not isinstance(content, Mapping):
        return
    yield _Candidate(path, {str(name): value for name, value in content.items() if isinstance(value, Tensor)})
    for key, inner in content.items():
        if not NO_MODEL.search(str(key)):
            yield from _candidates(inner, (*path, str(key)))


def _preference(one: _Candidate) -> tuple[bool, bool, int, int]:
    path = ".".join(one.path)
    usual = next((place for place, key in enumerate(WRAPPERS) if key in one.path), len(WRAPPERS))
    return not is_averaged(path), is_second(path), usual, -len(one.tensors)


def _note(chosen: _Candidate, large: list[_Candidate]) -> str:
    others = [".".join(one.path) for one in large if one is not chosen and one.path]
    if not others or not chosen.path:
        return ""
    what = "the averaged weights" if is_averaged(".".join(chosen.path)) else "the weights"
    return f"{what} under '{'.'.join(chosen.path)}', not those under {', '.join(map(repr, others))}"
