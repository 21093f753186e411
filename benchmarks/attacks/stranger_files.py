"""Every kind of file and request that a stranger may have made: how a sound one is made, and how vitreid reads it.

`benchmarks/fuzz.py` changes the sound ones at random; the tests put pipes, devices and files of many gigabytes in their place.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timezone
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from safetensors.torch import save_file

from vitreid.benchmarks.attacks.sound_boxes import BOX_TEXTS
from vitreid.benchmarks.attacks.stranger_requests import REQUESTS, make, send
from vitreid.common.inputs.regular_files import CONFIG_BYTES, read_text
from vitreid.configs import load_config
from vitreid.configs.load import parse_stored_config
from vitreid.datasets.loading.decode import read_image
from vitreid.datasets.published.msmt17 import load_msmt17
from vitreid.datasets.readers.manifest import load_manifest
from vitreid.datasets.synthetic.film_truth import read_paths, read_truth
from vitreid.gallery import Gallery, GalleryInfo, fit_pca, verify
from vitreid.gallery.export.export_plan import read_plan
from vitreid.gallery.export.sources import open_source
from vitreid.gallery.storage.record_images import load_image, read_pixels
from vitreid.model.weights.model_folder import model_config
from vitreid.model.weights.read import read_weights
from vitreid.processor import Embedder
from vitreid.processor.embedding.foreign.sidecar import read_sidecar
from vitreid.processor.runs.checkpoint import load_last, restored_model
from vitreid.processor.scoring.feature_file import load_features
from vitreid.report.collect import read_epochs
from vitreid.tracking.box_files import read_boxes
from vitreid.tracking.camera_options import with_table
from vitreid.tracking.detectors.detector_description import ModelFileDescription, read_json_object
from vitreid.tracking.recordings import Recording

SAVED = Path(__file__).resolve().parents[2] / "tests" / "legacy"  # a small run and what was made of it
MODEL = "sha256:of-the-benchmark"
ROWS, WIDTH = 240, 8  # of the gallery


class StrangersFile(NamedTuple):
    """A kind of file.

    Args:
        make: writes a sound one into an empty folder, with what belongs to it, and returns its path.
        read: reads the file at a path, as the commands do.
        form: its form, one of `mutations.FORMS`.
        is_folder: whether the file is read through its folder, so that an error may name the folder only.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    form: str
    is_folder: bool = False


# ---- weights


def _copied(name: str, folder: Path) -> Path:
    return Path(shutil.copy(SAVED / name, folder))


def _tensors() -> dict[str, torch.Tensor]:
    return {f"blocks.{number}.weight": torch.full((4, 6), number / 8) for number in range(3)}


def _torch_file(folder: Path, zipped: bool) -> Path:
    path = folder / "weights.pth"
    torch.save({"state_dict": _tensors(), "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
    return path


def _numpy_weights(folder: Path) -> Path:
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in _tensors().items()}
    np.savez(folder / "weights.npz", **arrays)
    return folder / "weights.npz"


def _plain_safetensors(folder: Path) -> Path:
    save_file(_tensors(), folder / "weights.safetensors", {"format": "pt"})
    return folder / "weights.safetensors"


def _model_folder(folder: Path) -> Path:
    save_file(_tensors(), folder / "model.safetensors")
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 0,
        "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "config.json"


def _read_checkpoint(path: Path) -> object:
    return restored_model(load_last(path), path)


# ---- images, tables, configs


def _picture(kind: str, folder: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 12, 3), np.uint8)
    path = folder / f"crop.{kind}"
    path.write_bytes(cv2.imencode(f".{kind}", cv2.resize(pixels, (48, 96)))[1].tobytes())
    return path


def _read_picture(path: Path) -> object:
    return read_image(path), read_pixels(load_image(path, {}))


def _written(name: str, text: str, folder: Path) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _manifest(folder: Path) -> Path:
    lines = []
    for number in range(8):
        name, split = f"{number}.png", ("train", "train", "query", "gallery")[number % 4]
        (folder / name).write_bytes(cv2.imencode(".png", np.zeros((8, 4, 3), np.uint8))[1].tobytes())
        lines.append(f"{name},{number // 4},c{number % 2},{split},2026-01-31T08:00:0{number}")
    return _written("people.csv", "\n".join(["path,pid,camera,split,time", *lines]) + "\n", folder)


def _boxes_in_videos(folder: Path) -> Path:
    lines = [f"hall.mp4,{frame},{frame}.5,2,30,60,7,c1" for frame in range(6)]
    return _written("boxes.csv", "\n".join(["video,frame,x,y,width,height,track,camera", *lines]) + "\n", folder)


def _read_source(path: Path) -> object:
    return [row.to_dict() for row in open_source(str(path)).rows()]


def _film(folder: Path) -> Path:
    """Write gt.txt and det.txt of a camera."""
    _written("film/c1/det/det.txt", "".join(f"{frame},-1,10,20,30,60,0.9,-1,-1,-1\n" for frame in range(1, 7)), folder)
    return _written("film/c1/gt/gt.txt", "".join(f"{frame},2,10,20,30,60,1,1,0.8\n" for frame in range(1, 7)), folder)


def _read_film(path: Path) -> object:
    return read_truth(path.parents[2], path.parents[1].name)


def _msmt17_list(folder: Path) -> Path:
    root = folder / "MSMT17"
    for name in ("train", "test"):
        (root / name).mkdir(parents=True)
    lines = [
        f"{pid:04d}/{pid:04d}_{number:03d}_0{1 + number % 3}_0303morning_0008_0.jpg {pid}"
        for pid in range(3)
        for number in range(4)
    ]
    for name in ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt"):
        (root / name).write_text("\n".join(lines) + "\n")
    return root / "list_train.txt"


def _read_msmt17(path: Path) -> object:
    return load_msmt17(path.parents[1])


def _read_recordings(path: Path) -> object:
    recordings = [Recording(str(path.with_name(name)), name, name, None) for name in ("hall.mp4", "door.mp4")]
    return with_table(recordings, path, timezone.utc)


CONFIG = """MODEL:
  NAME: vit_tiny_patch16_224
  EMBED_DIM: 16
  SIE_CAMERA: true
INPUT:
  SIZE_TRAIN: [64, 32]
  SIZE_TEST: [64, 32]
DATASETS:
  NAMES: [market1501]
SOLVER:
  STEPS: (4, 8)
  BASE_LR: 3.5e-4
OUTPUT_DIR: run
"""


def _read_stored_config(path: Path) -> object:
    return parse_stored_config(read_text(path, CONFIG_BYTES, errors="replace"), source=str(path))


# ---- features, galleries


def _gallery(name: str, folder: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    is_small = name == "projection.npz"
    place = folder / ("large" if is_small else "gallery")
    info = GalleryInfo(MODEL, WIDTH, embed={"normalize": True}, threshold=None)
    gallery = Gallery.create(place, info)
    records = [
        {"path": f"{row}.jpg", "pid": str(row % 3), "camera": f"c{row % 2}", "time": float(row), "note": "é"}
        for row in range(ROWS)
    ]
    gallery.add(rows, records, MODEL)
    gallery.remove([3])
    if name == "cameras.npz":
        gallery.set_info(camera_norm="mean")
    if is_small:
        fit_pca(gallery, folder / "gallery", 4)
    return folder / "gallery" / name


def _read_gallery(path: Path) -> object:
    folder = path.parent
    problems = verify(folder, images=False)
    gallery = Gallery.open(folder)
    queries = np.eye(2, gallery.info.dimension, dtype=np.float32)
    found = gallery.search(queries, 5, where=["camera=c0"], cameras="c1", rerank=True)
    return problems, [result.to_dict() for result in found], gallery.records, gallery.camera_sums()


# ---- descriptions


def _sidecar(folder: Path) -> Path:
    (folder / "model.onnx").write_bytes(b"")
    return _written(
        "model.onnx.json", json.dumps({"input": "imagenet", "size": [64, 32], "threshold": {"distance": 0.5}}), folder
    )


def _read_sidecar(path: Path) -> object:
    return read_sidecar(path, True)


def _read_detector(path: Path) -> object:
    return ModelFileDescription.of(read_json_object(path), str(path))


DETECTOR = {"form": "yolo", "classes": ["person"], "size": [64, 64], "mean": [0, 0, 0], "scale": 1, "channels": "rgb"}
EPOCHS = "\n".join(
    json.dumps({"epoch": number, "loss": 1 / number, "mAP": 0.5, "seconds": 3.2}) for number in range(1, 9)
)
PATHS = "person,camera,start,end\n" + "\n".join(f"{number},c{number % 3},{number}.0,{number}.5" for number in range(6))
RECORDINGS = "video,camera,start\nhall.mp4,hall,2026-01-31T08:00+01:00\ndoor.mp4,door,2026-01-31T08:00:10\n"


def _boxes(form: str, folder: Path) -> Path:
    name, text = BOX_TEXTS[form]
    return _written(name, text, folder)


def _read_boxes(path: Path) -> object:
    return read_boxes(path.parent if path.parent.name == "labels" else path)


def _of(name: str, text: str) -> Callable[[Path], Path]:
    return partial(_written, name, text)


GALLERY_FILES = {
    "gallery.json": "json",
    "embeddings.npy": "npy",
    "records.parquet": "parquet",
    "projection.npz": "zip",
    "cameras.npz": "zip",
}
PICTURES = ("jpg", "png", "webp", "bmp", "gif", "tiff")

FILES: dict[str, StrangersFile] = {
    "weights: best.safetensors": StrangersFile(
        partial(_copied, "run/best.safetensors"), partial(Embedder, device="cpu", precision="fp32"), "safetensors"
    ),
    "weights: last.pth": StrangersFile(partial(_copied, "run/last.pth"), _read_checkpoint, "zip"),
    "weights: torch": StrangersFile(partial(_torch_file, zipped=True), read_weights, "zip"),
    "weights: torch before 1.6": StrangersFile(
        partial(_torch_file, zipped=False), partial(read_weights, plain=True), "bytes"
    ),
    "weights: NumPy": StrangersFile(_numpy_weights, read_weights, "zip"),
    "weights: safetensors": StrangersFile(_plain_safetensors, read_weights, "safetensors"),
    "weights: config.json": StrangersFile(_model_folder, lambda path: model_config(path.parent), "json", True),
    **{
        f"image: {kind}": StrangersFile(partial(_picture, kind), _read_picture, "png" if kind == "png" else "bytes")
        for kind in PICTURES
    },
    "table: manifest": StrangersFile(_manifest, load_manifest, "table"),
    "table: images": StrangersFile(_manifest, _read_source, "table"),
    "table: boxes in videos": StrangersFile(_boxes_in_videos, _read_source, "table"),
    "table: recordings": StrangersFile(_of("recordings.csv", RECORDINGS), _read_recordings, "table"),
    "table: MSMT17": StrangersFile(_msmt17_list, _read_msmt17, "table"),
    "table: film": StrangersFile(_film, _read_film, "table"),
    "table: paths": StrangersFile(_of("paths.csv", PATHS), lambda path: read_paths(path.parent), "table"),
    "config: recipe": StrangersFile(_of("recipe.yml", CONFIG), load_config, "text"),
    "config: stored": StrangersFile(_of("config.yml", CONFIG), _read_stored_config, "text"),
    "features": StrangersFile(partial(_copied, "features/market1501.safetensors"), load_features, "safetensors"),
    **{
        f"gallery: {name}": StrangersFile(partial(_gallery, name), _read_gallery, form, True)
        for name, form in GALLERY_FILES.items()
    },
    "gallery: export.json": StrangersFile(partial(_copied, "gallery/export.json"), read_plan, "json"),
    "description: embedder": StrangersFile(_sidecar, _read_sidecar, "json"),
    "description: detector": StrangersFile(_of("det.onnx.json", json.dumps(DETECTOR)), _read_detector, "json"),
    "run: metrics.jsonl": StrangersFile(_of("metrics.jsonl", EPOCHS), read_epochs, "text"),
    **{
        f"boxes: {form}": StrangersFile(
            partial(_boxes, form), _read_boxes, "json" if name.endswith("json") else "table"
        )
        for form, (name, _) in BOX_TEXTS.items()
    },
    **{f"request: {name}": StrangersFile(partial(make, name), send, "request") for name in REQUESTS},
}


def sample_of(kind: str, folder: Path) -> Path:
    """Return the path of a sound file of the kind, written into the empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return FILES[kind].make(folder)


def read(kind: str, path: Path) -> Any:
    """Return what the reader of the kind returns for a file."""
    return FILES[kind].read(path)
