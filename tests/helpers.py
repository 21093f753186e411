"""What several test files use: the original's golden files, runs on little data, small evaluations, a gallery of colours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from vitreid.configs import load_config
from vitreid.model import ModelSpec
from vitreid.processor.training.run import train
from vitreid.tools import train as train_tool

ROOT = Path(__file__).resolve().parents[1]
CAMERA_PROTOCOLS = ("none", "own-file", "same-camera")  # those that need no labels but cameras and files

# --- golden files -----------------------------------------------------------------------------------------------------

GOLDEN = ROOT / "tests" / "golden"
GOLDEN_MODELS = sorted(path.stem for path in GOLDEN.glob("*.safetensors") if path.stem.startswith(("vit", "jpm")))
GOLDEN_EVALUATION = np.load(GOLDEN / "evaluation.npz")


def read_golden(name: str) -> tuple[dict, dict[str, Tensor]]:
    """Return (case, tensors) of one golden file."""
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        return json.loads(file.metadata()["case"]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def original_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the original TransReID in a golden file."""
    return {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}


def golden_spec(case: dict) -> ModelSpec:
    """Our description of the original's model."""
    jpm = case.get("jpm") or {}
    return ModelSpec(
        name="vit_tiny_patch16_224",
        img_size=case["size"],
        stride=case["stride"],
        embed_dim=case["embed_dim"],
        depth=case["depth"],
        num_heads=case["num_heads"],
        mlp_ratio=case["mlp_ratio"],
        sie_camera=case.get("cam", True),
        sie_view=case.get("view", False),
        sie_coe=case["sie_coef"],
        cameras=tuple(f"c{i}" for i in range(case["num_cameras"])),
        views=tuple(f"v{i}" for i in range(case.get("num_views", 0))),
        jpm=bool(jpm),
        shift_num=jpm.get("shift", 5),
        shuffle_group=jpm.get("groups", 2),
        num_parts=jpm.get("divide", 4),
        re_arrange=jpm.get("rearrange", True),
    )


def golden_arrays(name: str) -> list[np.ndarray]:
    """Return query and gallery embeddings, q_pids, g_pids, q_camids, g_camids of a golden evaluation."""
    parts = ("query_feat", "gallery_feat", "query_pid", "gallery_pid", "query_camid", "gallery_camid")
    return [GOLDEN_EVALUATION[f"{name}.{part}"] for part in parts]


# --- runs -------------------------------------------------------------------------------------------------------------


def run(arguments: list[str], resume: Path | None = None, overwrite: bool = False):
    """Train as tools/train.py does; errors are raised."""
    return train(load_config(None, arguments), resume, overwrite)


def run_tool(arguments: list[str], *flags: str) -> None:
    """Train through the command line, without the report."""
    assert train_tool.main([*flags, *arguments, "--traceback", "--no-report"]) == 0


def at(folder: Path) -> list[str]:
    """The options that send a run into `folder`."""
    return ["OUTPUT_DIR", str(folder)]


def rows(folder: Path | str) -> list[dict]:
    """Return what a run logs of each epoch."""
    return [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]


def write_test_manifest(people: Path, path: Path) -> Path:
    """List the test images of the synthetic people under camera names that no model has seen."""
    files = [
        (image, split)
        for split, folder in (("query", "query"), ("gallery", "bounding_box_test"))
        for image in sorted((people / "synthetic" / folder).glob("*.jpg"))
    ]
    lines = [f"{image},{image.name[:4]},door {image.name[6]},{split}" for image, split in files]
    path.write_text("\n".join(["path,pid,camid,split", *lines]))
    return path


# --- small evaluations ------------------------------------------------------------------------------------------------


def poisoned(name: str, row: int, value: float) -> dict[str, np.ndarray]:
    """Return one array of the small golden evaluation with a wrong value in `row`, by its name."""
    features = GOLDEN_EVALUATION[f"small.{name}_feat"].copy()
    features[row, 3] = value
    return {name: features}


WRONG_EVALUATIONS = [  # what replaces a part of the small golden evaluation, and what the error names
    (poisoned("query", 4, np.nan), "query.*row 4 "),
    (poisoned("gallery", 17, np.inf), "gallery.*row 17 .*infinite"),
    (poisoned("gallery", 5, 1e30), "gallery.*row 5 .*overflow"),
    ({"gallery": np.empty((0, 12))}, r"gallery.*\(0, 12\)"),
    ({"query": np.zeros((40, 8))}, r"query.*\b8 .*gallery 12"),
    ({"g_pids": np.zeros(299, int)}, r"g_pids.*\b300 .*gallery.*\(299,\)"),
    ({"q_pids": np.full(40, 12345)}, "none of the 40 queries"),
    ({"metric": "manhattan"}, "metric.*'manhattan'.*cosine, euclidean"),
    ({"protocol": "market"}, "protocol.*'market'.*none, other-clothes, own-file, same-camera"),
]


@st.composite
def problems(draw):
    """Few distinct integer features make ties, few pids and cameras make junk, distractors and missing matches."""
    num_queries, num_gallery, dim = draw(st.integers(1, 6)), draw(st.integers(1, 12)), draw(st.integers(1, 3))

    def integers(low, high, *shape):
        size = int(np.prod(shape))
        return np.array(draw(st.lists(st.integers(low, high), min_size=size, max_size=size))).reshape(shape)

    query, gallery = integers(-2, 2, num_queries, dim), integers(-2, 2, num_gallery, dim)
    pids = integers(0, 3, num_queries), integers(-1, 4, num_gallery)
    camids = integers(0, 2, num_queries), integers(0, 2, num_gallery)
    return query.astype(np.float32), gallery.astype(np.float32), *pids, *camids


def make_problem(seed: int, num_queries: int = 5, num_gallery: int = 9) -> tuple[np.ndarray, ...]:
    """Small integers as features make exact distances and ties; few pids and cameras make junk and missing matches."""
    rng = np.random.default_rng(seed)
    query, gallery = rng.integers(-2, 3, (num_queries, 2)), rng.integers(-2, 3, (num_gallery, 2))
    pids = rng.integers(0, 4, num_queries), rng.integers(-1, 4, num_gallery)
    camids = rng.integers(0, 3, num_queries), rng.integers(0, 3, num_gallery)
    return query.astype(np.float32), gallery.astype(np.float32), *pids, *camids


# --- images -----------------------------------------------------------------------------------------------------------


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(number: int = 8, height: int = 24, width: int = 12, low: int = 0) -> Tensor:
    """(number, 3, height, width) uint8 images of random pixels, from `low` to 255."""
    return torch.randint(low, 256, (number, 3, height, width), dtype=torch.uint8, generator=seeded(9))


def smooth(number: int = 6, height: int = 48, width: int = 24) -> Tensor:
    """Coloured gradients: small differences of position make small differences of value."""
    coarse = torch.rand(number, 3, 5, 4, generator=seeded(4)) * 200 + 20
    return (
        torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255).round().to(torch.uint8)
    )


def farthest(one, other) -> float:
    """The largest difference of a pixel."""
    return (one.float() - torch.as_tensor(other).float()).abs().max().item()
