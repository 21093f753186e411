"""The embedder: whatever an image comes as, the embedding is that of the evaluation; its fingerprint; its cameras."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import vitreid
from vitreid.configs import load_config
from vitreid.datasets import EvalLoader, Preprocess, Record, ReidData
from vitreid.model import ModelSpec, ReidModel, load_deploy, save_deploy
from vitreid.processor.device import place
from vitreid.processor.embedding.embedder import Embedder, fingerprint_of
from vitreid.processor.embedding.extract import EmbedSettings, extract
from vitreid.processor.runs.checkpoint import describe_model

THRESHOLD = {
    "distance": 0.8,
    "metric": "euclidean",
    "fmr": 1e-3,
    "measured_fmr": 1e-3,
    "fmr_low": 0.0,
    "fmr_high": 0.01,
}
THRESHOLD |= {"tar": 0.9, "num_genuine": 10, "num_impostor": 5000, "level": 0.95}
WORDS = ["INPUT.SIZE_TEST", "(32,16)", "INPUT.SIZE_TRAIN", "(32,16)", "TEST.FLIP", "True", "MODEL.DEVICE", "cpu"]


def save_weights(path, **about):
    """An untrained model with side information of two cameras."""
    torch.manual_seed(0)
    spec = ModelSpec(
        "vit_tiny_patch16_224", (32, 16), embed_dim=16, depth=1, num_heads=2, sie_camera=True, cameras=("a", "b")
    )
    described = describe_model(load_config(None, WORDS), ReidData("none", [], [], [], ()), {}, {})
    save_deploy(path, ReidModel(spec), {**described, **about})
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp("model") / "best.safetensors")


@pytest.fixture(scope="module")
def embedder(weights):
    return Embedder(weights, device="cpu", precision="fp32", batch_size=4)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Ten lossless images of several sizes."""
    folder, rng = tmp_path_factory.mktemp("crops"), np.random.default_rng(0)
    for number in range(10):
        pixels = rng.integers(0, 256, (20 + number, 10 + number, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
    return sorted(folder.iterdir())


def pixels_of(path):
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def test_paths_pictures_and_arrays_are_one_and_the_same(embedder, files):
    expected = embedder(files)
    assert expected.shape == (10, 16) and expected.dtype == np.float32
    assert np.array_equal(embedder([str(path) for path in files]), expected)
    assert np.array_equal(embedder([Image.open(path) for path in files]), expected)
    assert np.array_equal(embedder([pixels_of(path) for path in files]), expected)


def test_the_embedding_is_that_of_the_evaluation(embedder, weights, files):
    """Bit for bit, with the settings that the checkpoint carries (here the mirror image)."""
    model, about = load_deploy(weights)
    records = [Record(str(path), 0, 0) for path in files]
    loader = EvalLoader(records, Preprocess.from_dict(about["preprocess"]), batch_size=4)
    expected = extract(
        place(model, torch.device("cpu"), torch.float32), loader, EmbedSettings(**about["embed"]), torch.device("cpu")
    )
    assert embedder.flip and embedder.neck == "before"
    assert np.array_equal(embedder(files), expected.numpy())


def test_one_image_needs_no_list(embedder, files):
    for image in (files[0], Image.open(files[0]), pixels_of(files[0])):
        assert embedder(image).shape == (1, embedder.dim)
    assert embedder([]).shape == (0, embedder.dim)
    assert embedder(np.zeros((3, 8, 4, 3), np.uint8)).shape == (3, embedder.dim)


def test_cameras_are_known_by_name(embedder, files):
    of_a, of_b, of_none = (embedder(files[0], camera)[0] for camera in ("a", "b", None))
    assert not np.allclose(of_a, of_b) and not np.allclose(of_a, of_none)
    assert np.array_equal(embedder(files[0], "a new one")[0], of_none)
    mixed = embedder([files[0]] * 3, ["b", None, "a"])
    assert np.allclose(mixed, [of_b, of_none, of_a], atol=1e-6)
    with pytest.raises(ValueError, match="2 names for 3 images"):
        embedder([files[0]] * 3, ["a", "b"])


def test_a_turned_photo_stands_upright(embedder, tmp_path):
    """EXIF orientation 6: the file's rows are the picture's columns."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(1).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright = np.rot90(pixels, -1).copy()
    assert np.array_equal(embedder(Image.open(tmp_path / "turned.png")), embedder(upright))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16", "LA"])
def test_pictures_of_every_mode_are_embedded(embedder, mode):
    picture = Image.fromarray(np.full((8, 4), 40000, np.uint16)) if mode == "I;16" else Image.new(mode, (4, 8))
    assert np.isfinite(embedder(picture)).all()


def test_sixteen_bits_keep_their_upper_eight(embedder):
    grey = np.full((8, 4, 3), 40000 >> 8, np.uint8)
    assert np.array_equal(embedder(Image.fromarray(np.full((8, 4), 40000, np.uint16))), embedder(grey))


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((8, 4), np.uint8), ValueError, r"\(8, 4\) uint8"),
        (np.zeros((8, 4, 3), np.float32), ValueError, "float32"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r"\(0, 4, 3\)"),
        ([3], TypeError, "a int"),
        ("/nowhere/1.jpg", FileNotFoundError, "nowhere"),
    ],
)
def test_what_is_no_image_is_named(embedder, image, error, message):
    with pytest.raises(error, match=message):
        embedder(image)


def test_a_fingerprint_is_of_all_that_decides_an_embedding(weights, tmp_path):
    """Tensors, architecture, preprocessing and settings; not metrics or the threshold."""
    model, about = load_deploy(weights)
    preprocess, settings = Preprocess.from_dict(about["preprocess"]), EmbedSettings(**about["embed"])
    prints = [Embedder(weights, "cpu").fingerprint, fingerprint_of(model, replace(preprocess, size=(16, 16)), settings)]
    prints.append(fingerprint_of(model, preprocess, replace(settings, neck="after")))
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-3
    prints.append(fingerprint_of(model, preprocess, settings))
    assert len(set(prints)) == 4 and all(text.startswith("sha256:") and len(text) == 71 for text in prints)
    other = save_weights(tmp_path / "best.safetensors", metrics={"mAP": 1.0}, threshold={**THRESHOLD, "embed": {}})
    assert Embedder(other, "cpu").fingerprint == prints[0]


def test_fingerprints_of_earlier_versions_stay():
    """So that their galleries open; the value was computed before the spec had sie_tokens, projection, semantic_weight."""
    shape = {"embed_dim": 16, "depth": 1, "num_heads": 2}
    model = ReidModel(ModelSpec("vit_tiny_patch16_224", (32, 16), sie_camera=True, cameras=("a", "b"), **shape))
    for number, value in enumerate(model.state_dict().values()):
        value.fill_(number)
    prints = [fingerprint_of(model, Preprocess((32, 16)), EmbedSettings(flip=True))]
    assert prints == ["sha256:2acdcc89aa4bf11ed0bc8e16600dd83e4838c8213e1d2f51899f0300997e0b0a"]
    model.spec = replace(model.spec, sie_tokens="class")
    assert fingerprint_of(model, Preprocess((32, 16)), EmbedSettings(flip=True)) not in prints


def test_the_threshold_comes_with_the_weights(weights, tmp_path, caplog):
    embed = load_deploy(weights)[1]["embed"]
    own = save_weights(tmp_path / "own.safetensors", threshold={**THRESHOLD, "dataset": "x", "embed": embed})
    other = {**THRESHOLD, "dataset": "x", "embed": {**embed, "neck": "after"}}
    assert Embedder(weights, "cpu").threshold is None
    assert Embedder(own, "cpu").threshold == Embedder(own, "cpu").info.threshold == THRESHOLD
    assert Embedder(save_weights(tmp_path / "other.safetensors", threshold=other), "cpu").threshold is None
    assert "left aside" in caplog.text


def test_a_gallery_is_told_what_made_its_embeddings(embedder):
    info = embedder.info
    assert (info.model, info.dimension, info.dtype) == (embedder.fingerprint, 16, "float32")
    assert info.preprocess["size"] == [32, 16] and info.embed["flip"]


def test_attention_covers_the_patches_and_knows_the_camera(embedder, files):
    weights = embedder.attention(files[0], None)
    height, width = embedder.preprocess.size
    assert weights.shape == (height // 16, width // 16)
    assert weights.sum() == pytest.approx(1, abs=1e-5)


def test_threads_do_not_disturb_each_other(embedder, files):
    expected = [embedder(path) for path in files]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(embedder, files * 3))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected * 3, strict=True))


def test_wrong_arguments_are_refused(weights, tmp_path):
    for arguments, message in (
        ({"device": "gpu"}, "auto, cuda"),
        ({"precision": "int4"}, "bf16"),
        ({"batch_size": 0}, "batch"),
    ):
        with pytest.raises(ValueError, match=message):
            Embedder(weights, **arguments)
    bare = tmp_path / "bare.safetensors"
    save_deploy(bare, load_deploy(weights)[0], {})
    with pytest.raises(ValueError, match="preprocess, embed"):
        Embedder(bare)


@pytest.mark.slow
def test_the_package_is_light_until_it_is_used():
    assert vitreid.Embedder is Embedder and "Gallery" in dir(vitreid)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vitreid.nothing
    check = "import sys, vitreid; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", check], env={"PYTHONPATH": ":".join(sys.path)}, check=False).returncode
        == 0
    )


def test_two_images_are_compared_without_a_gallery(tmp_path, files):
    bare = Embedder(save_weights(tmp_path / "bare.safetensors"), device="cpu", precision="fp32")
    assert bare.same_person(files[0], files[0]).answer == "unknown"
    able = Embedder(save_weights(tmp_path / "able.safetensors", threshold=THRESHOLD), device="cpu", precision="fp32")
    same, other = able.same_person(files[0], files[0], ("a", None)), able.same_person(files[0], files[0], ("a", "a"))
    assert other.answer == "same" and other.distance == 0 and other.threshold == THRESHOLD["distance"]
    assert same.distance > 0  # the camera counts
