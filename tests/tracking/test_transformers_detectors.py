"""The DETR family of transformers, randomly initialised: loaded from a folder, batched, filtered by class, killed; and no network."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from films import walk_frames, write_video

from vitreid.common.errors import UserError
from vitreid.configs import load_config
from vitreid.datasets import ReidData
from vitreid.gallery import Gallery, verify
from vitreid.model import ModelSpec, ReidModel, save_deploy
from vitreid.processor.runs.checkpoint import describe_model
from vitreid.tracking.detections import VideoFrame
from vitreid.tracking.detectors import DetectorOptions, open_detector
from vitreid.tracking.detectors.transformers_detector import box_precision

transformers = pytest.importorskip("transformers")

NAMES = ("person", "bicycle", "car")
LEVELS = {"out_features": ["stage2", "stage3", "stage4"]}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic", **LEVELS}
HGNET = {
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 8, 16, 16],
    "stage_mid_channels": [8] * 4,
    **LEVELS,
    "stage_out_channels": [8, 16, 16, 16],
    "stage_num_blocks": [1] * 4,
    "stage_numb_of_layers": [1] * 4,
    "hidden_sizes": [8, 16, 16, 16],
    "depths": [1] * 4,
    "embedding_size": 8,
}
DEEP = {
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "num_queries": 20,
}
RT = {
    **DEEP,
    "d_model": 16,
    "encoder_hidden_dim": 16,
    "encoder_in_channels": [8, 16, 16],
    "anchor_image_size": None,
    "decoder_in_channels": [16] * 3,
    "decoder_n_points": 2,
    "hidden_expansion": 1.0,
}
PLAIN = {**DEEP, "d_model": 32, "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}


def build_config(family):
    """A tiny configuration of one family, and the class of its image processor."""
    t = transformers
    names = {"id2label": dict(enumerate(NAMES)), "label2id": {name: number for number, name in enumerate(NAMES)}}
    if family == "rt_detr":
        return t.RTDetrConfig(backbone_config=t.RTDetrResNetConfig(**RESNET), **RT, **names), t.RTDetrImageProcessor
    if family == "rt_detr_v2":
        return t.RTDetrV2Config(backbone_config=t.RTDetrResNetConfig(**RESNET), **RT, **names), t.RTDetrImageProcessor
    if family == "d_fine":
        values = {**RT, "encoder_in_channels": [16, 16, 16], "decoder_n_points": [2, 2, 2]}
        return t.DFineConfig(backbone_config=t.HGNetV2Config(**HGNET), **values, **names), t.RTDetrImageProcessor
    backbone = t.ResNetConfig(**RESNET)
    if family == "detr":
        return t.DetrConfig(backbone_config=backbone, **PLAIN, **names), t.DetrImageProcessor
    if family == "conditional_detr":
        return t.ConditionalDetrConfig(backbone_config=backbone, **PLAIN, **names), t.ConditionalDetrImageProcessor
    points = {"num_feature_levels": 3, "encoder_n_points": 2, "decoder_n_points": 2}
    config = t.DeformableDetrConfig(backbone_config=backbone, **PLAIN, **points, **names)
    return config, t.DeformableDetrImageProcessor


def save(folder, family):
    """Write a randomly initialised model as its users have it: weights, configuration, image processor."""
    torch.manual_seed(0)
    config, processor = build_config(family)
    model = transformers.AutoModelForObjectDetection.from_config(config).eval()
    for name, weight in model.named_parameters():
        if "class_embed" in name or "enc_score_head" in name:
            torch.nn.init.normal_(weight, std=0.5)  # several classes occur
    model.save_pretrained(folder)
    processor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rt_detr(tmp_path_factory):
    """An RT-DETR whose boxes have all classes, whatever weights a release draws: their logits have the same mean."""
    folder = save(tmp_path_factory.mktemp("rt_detr"), "rt_detr")
    model = transformers.AutoModelForObjectDetection.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(pixel_values=torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))).logits
        model.model.decoder.class_embed[-1].bias -= logits.mean((0, 1))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def frames():
    """Smooth pictures of one size, uint8 BGR."""
    coarse = np.random.default_rng(0).integers(0, 256, (5, 6, 8, 3), dtype=np.uint8)
    return [np.kron(one, np.ones((8, 10, 1), np.uint8)) for one in coarse]


def opened(folder, *classes, confidence=0.3, **more):
    return open_detector(folder, DetectorOptions(classes=classes or NAMES, confidence=confidence, **more))


def test_a_folder_of_transformers_is_a_detector(rt_detr, frames):
    """The boxes are those that transformers itself returns, clipped, the best first."""
    (found,) = opened(rt_detr).detect(frames[:1])
    processor = transformers.AutoImageProcessor.from_pretrained(rt_detr)
    model = transformers.AutoModelForObjectDetection.from_pretrained(rt_detr).eval()
    with torch.inference_mode():
        outputs = model(**processor(images=frames[0][..., ::-1].copy(), return_tensors="pt"))
    (expected,) = processor.post_process_object_detection(outputs, threshold=0.3, target_sizes=[(48, 80)])
    boxes = expected["boxes"].numpy().clip(0, [80, 48, 80, 48])
    order = np.argsort(-expected["scores"].numpy(), kind="stable")
    order = order[((boxes[:, 2:] - boxes[:, :2])[order] >= 2).all(axis=1)]
    assert len(found) > 5
    assert found.boxes == pytest.approx(boxes[order])
    assert found.labels == tuple(NAMES[label] for label in expected["labels"][order])


def test_a_batch_of_frames_equals_the_frames_one_by_one(rt_detr, frames):
    detector = opened(rt_detr, batch_size=2)
    together = detector.detect(frames)
    streamed = list(detector.stream(VideoFrame(number, 0.0, one) for number, one in enumerate(frames)))
    assert [frame.number for frame, _ in streamed] == list(range(len(frames)))
    assert len({tuple(one.scores) for one in together}) == len(frames)  # each frame has its own boxes
    for frame, batch, (_, passed) in zip(frames, together, streamed):
        (alone,) = detector.detect([frame])
        for other in (batch, passed):
            assert other.labels == alone.labels
            assert other.boxes == pytest.approx(alone.boxes, abs=1e-3)
            assert other.scores == pytest.approx(alone.scores, abs=1e-5)


def test_classes_are_kept_by_name(rt_detr, frames):
    every = opened(rt_detr).detect(frames)
    assert {label for found in every for label in found.labels} == set(NAMES)
    for name in NAMES:
        for all_of_them, found in zip(every, opened(rt_detr, name.upper()).detect(frames)):
            own = all_of_them.select(np.array([label == name for label in all_of_them.labels]))
            assert np.array_equal(found.boxes, own.boxes)


def test_an_unknown_class_lists_those_of_the_model(rt_detr):
    with pytest.raises(UserError, match=r"knows no class 'dog'; choose from person, bicycle, car"):
        opened(rt_detr, "dog")


def test_the_confidence_is_a_threshold(rt_detr, frames):
    (many,) = opened(rt_detr).detect(frames[:1])
    middle = float(np.median(many.scores))
    (few,) = opened(rt_detr, confidence=middle).detect(frames[:1])
    assert few.scores.tolist() == [score for score in many.scores.tolist() if score >= middle]
    assert 0 < len(few) < len(many)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["rt_detr_v2", "d_fine", "detr", "conditional_detr", "deformable_detr"])
def test_the_whole_family_finds_boxes(tmp_path, frames, family):
    detector = opened(save(tmp_path, family), confidence=0.0)
    found = detector.detect(frames)
    assert all(len(one) >= 5 for one in found)
    (alone,) = detector.detect(frames[1:2])
    assert found[1].boxes == pytest.approx(alone.boxes, abs=0.05)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_an_incomplete_folder_says_what_is_missing(rt_detr, tmp_path, name):
    for file in rt_detr.iterdir():
        if file.name != name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match=name):
        opened(tmp_path)


def test_a_hub_name_without_network_is_one_message_at_once(monkeypatch):
    calls = []

    def refuse(place, timeout):
        calls.append(timeout)
        raise OSError("no route to host")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(
        UserError, match=r"nobody/nothing: is neither a folder nor in the cache.*no route to host.*copy"
    ):
        open_detector("nobody/nothing")
    assert calls == [5.0]  # asked once


def test_offline_mode_is_respected(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        open_detector("nobody/nothing")


def test_coordinates_are_not_computed_in_8_bits_unless_asked_for():
    """bf16 would round the position in a wide frame to several pixels."""
    assert box_precision("auto", torch.device("cpu")) is torch.float32
    assert box_precision("auto", torch.device("cuda")) is torch.float16
    assert box_precision("bf16", torch.device("cpu")) is torch.bfloat16


# --- killed -----------------------------------------------------------------------------------------------------------

KILLED = """
import os, random, shutil, signal, sys
from importlib import import_module

from killed_process import FILE_STEPS, die_at, in_child

import transformers

module = import_module("vitreid.gallery.export.export_job")
job = import_module("vitreid.gallery.export.recording_job")
detector = import_module("vitreid.tracking.detectors.transformers_detector").TransformersDetector
TrackOptions = import_module("vitreid.tracking.recording_tracks").TrackOptions
job.CHUNK_FRAMES = 8
folder, weights, video, output = sys.argv[1:]

def attempt(deadly, output):
    die_at(deadly, [*FILE_STEPS[:3], (shutil, "rmtree"), (detector, "detect"), (module.Embedder, "embed")])
    tracks = TrackOptions(detector=folder, confidence=0.3, device="cpu", precision="fp32")
    module.export(weights, video, output, batch_size=4, device="cpu", precision="fp32", recordings=job.RecordingOptions(tracks))

rng = random.Random(0)
ends = [in_child(attempt, rng.randint(3, 16), output) for _ in range(10)]
ends.append(in_child(attempt, 0, output))
print(ends.count(-signal.SIGKILL), ends[-1], in_child(attempt, 0, output + "-whole"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork, which Windows lacks")
@pytest.mark.slow
def test_an_export_killed_ten_times_has_the_bytes_of_an_uninterrupted_one(rt_detr, tmp_path):
    torch.manual_seed(0)
    spec = ModelSpec("vit_tiny_patch16_224", (32, 16), embed_dim=16, depth=1, num_heads=2)
    about = load_config(None, ["INPUT.SIZE_TEST", "(32,16)", "INPUT.SIZE_TRAIN", "(32,16)", "MODEL.DEVICE", "cpu"])
    save_deploy(
        tmp_path / "model.safetensors",
        ReidModel(spec),
        describe_model(about, ReidData("none", [], [], [], ()), {}, {}),
    )
    video = write_video(tmp_path / "lobby.avi", walk_frames()[0])
    words = [rt_detr, tmp_path / "model.safetensors", video, tmp_path / "G"]
    run = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, words)],
        env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout, run.stderr[-2000:]
    kills, last, whole = map(int, run.stdout.split()[-3:])
    assert kills == 10 and last == whole == 0, run.stderr[-2000:]
    gallery = Gallery.open(tmp_path / "G")
    assert len(gallery) >= 3 and not verify(gallery.path)
    files = [path.relative_to(gallery.path) for path in sorted(gallery.path.rglob("*")) if path.is_file()]
    assert any(file.parts[0] == "track_crops" for file in files)
    for file in files:
        if file.name not in ("gallery.json", "export.json", ".lock"):  # these hold the time of the export
            assert (gallery.path / file).read_bytes() == (tmp_path / "G-whole" / file).read_bytes(), file
