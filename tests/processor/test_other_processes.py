"""Embedders, galleries and results in other processes: pickled, spawned and forked."""

import inspect
import os
import pickle
import pkgutil
import subprocess
import sys
from importlib import import_module

import cloudpickle
import numpy as np
import pytest
from helpers import ROOT
from model_files import SIZE, needs, onnx_file
from process_cases import CASES

import vitreid
from vitreid import Embedder, Gallery
from vitreid.common.errors import UserError
from vitreid.common.locks import WriterLock
from vitreid.gallery import GalleryInfo
from vitreid.gallery.keeping.decision_file import Decision

IMAGES = list(np.random.default_rng(1).integers(0, 256, (6, 40, 20, 3), dtype=np.uint8))
ROOMS = [
    "common",
    "datasets",
    "deploy",
    "evaluation",
    "gallery",
    "labels",
    "loss",
    "model",
    "processor",
    "report",
    "solver",
    "tracking",
]
ARGUMENTS = {
    "ContradictionError": (Decision("undo", "Ann", of="0" * 32), (), "these rows were said to differ"),
    "RequestError": (400, "a sentence", {"Retry-After": "1"}),
    "Stopped": (2,),
}


@pytest.fixture
def gallery(untrained, tmp_path):
    """Six images in a gallery that embeds its queries."""
    embedder = Embedder(untrained, "cpu", batch_size=3)
    made = Gallery.create(tmp_path / "g", GalleryInfo.of(embedder))
    made.add(embedder(IMAGES), [{"path": f"{place}.png"} for place in range(6)], embedder.fingerprint)
    return Gallery.open(tmp_path / "g", embedder)


@pytest.mark.parametrize("packed", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])  # the latter: Dask and Ray
def test_a_pickled_gallery_is_opened_anew_with_its_embedder(gallery, packed):
    gallery.embedder.threshold = 0.7
    with gallery.lock:  # not held by the copy
        copy = pickle.loads(packed.dumps(gallery))
        assert copy.lock._depth == 0
    embedder = copy.embedder
    assert (embedder.fingerprint, embedder.batch_size, embedder.threshold) == (gallery.embedder.fingerprint, 3, 0.7)
    assert np.array_equal(embedder(IMAGES), gallery.embedder(IMAGES))
    assert copy.search(IMAGES[2], 1)[0].ids.tolist() == [2]


def test_a_relative_path_leads_to_the_file_from_another_folder(gallery, tmp_path, monkeypatch):
    monkeypatch.chdir(gallery.embedder.weights.parent)
    packed = pickle.dumps(Embedder(gallery.embedder.weights.name, "cpu"))
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(packed).fingerprint == gallery.embedder.fingerprint


def test_a_file_of_another_model_by_now_is_an_error(checkpoint, tmp_path):
    packed = pickle.dumps(
        Embedder(onnx_file(checkpoint.with_suffix(".onnx")), "cpu", options={"size": SIZE, "input": "rgb1"})
    )
    assert pickle.loads(packed).dim == 3
    packed = packed.replace(b"sha256:", b"sha256!")
    with pytest.raises(UserError, match="has changed since"):
        pickle.loads(packed)


def test_a_result_is_pickled_with_its_records_and_without_the_model(gallery):
    result = gallery.search(IMAGES[2], 2)[0]
    packed = pickle.dumps(result)
    assert len(packed) < 5000
    gallery.remove([0, 1, 2, 3, 4, 5])
    copy = pickle.loads(packed)
    assert copy.rows[0]["path"] == "2.png" and copy.to_dict() == result.to_dict()


def test_every_exception_reaches_another_process():
    """One that cannot be unpickled ends a pool of processes, or leaves it waiting."""
    found = {}
    for room in ROOMS:
        package = import_module(f"vitreid.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.startswith("vitreid.gallery.web.") and "request_error" not in module.name:
                continue  # an optional extra
            members = inspect.getmembers(import_module(module.name), inspect.isclass)
            found |= {
                kind.__name__: kind for _, kind in members if issubclass(kind, BaseException) and "vitreid" in str(kind)
            }
    assert len(found) > 12 and set(ARGUMENTS) <= set(found)
    for name, kind in found.items():
        error = kind(*ARGUMENTS.get(name, ("a sentence",)))
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is kind and str(copy) == str(error) and vars(copy) == vars(error), name


def test_a_child_of_fork_does_not_hold_the_lock_of_its_parent(tmp_path):
    lock = WriterLock(tmp_path)
    with lock:
        child = os.fork()
        if not child:
            try:
                with lock:
                    os._exit(1)
            except BlockingIOError:
                os._exit(0)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert lock.path.exists()


def test_an_embedder_on_a_gpu_says_so_in_a_child_of_fork(gallery):
    gallery.embedder.device = type("Device", (), {"type": "cuda"})()
    gallery.embedder.after_fork()
    with pytest.raises(UserError, match="cuda before `fork`.*spawn"):
        gallery.embedder(IMAGES)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_another_process_finds_the_same(case, gallery, untrained):
    pytest.importorskip({"fork, faiss": "faiss", "joblib": "joblib", "dask": "dask", "ray": "ray"}.get(case, "os"))
    check(case, untrained, gallery.path)


@pytest.mark.slow
@needs("onnx", "onnxruntime")
@pytest.mark.parametrize("case", ["fork", "spawn"])
def test_another_runtime_works_in_another_process(case, tmp_path):
    """ONNX Runtime has its own threads, which a child of `fork` lacks."""
    (tmp_path / "m.onnx.json").write_text('{"size": [8, 4], "input": "rgb1"}')
    embedder = Embedder(onnx_file(tmp_path / "m.onnx"), "cpu")
    made = Gallery.create(tmp_path / "g", GalleryInfo.of(embedder))
    made.add(embedder(IMAGES), [{"path": f"{place}.png"} for place in range(6)], embedder.fingerprint)
    check(case, tmp_path / "m.onnx", tmp_path / "g")


def check(case, weights, gallery):
    """Run one of CASES in a new process, which has two threads."""
    command = [sys.executable, str(ROOT / "tests" / "process_cases.py"), case, str(weights), str(gallery)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "2",
        "PYTHONPATH": os.path.dirname(os.path.dirname(vitreid.__file__)),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1:] == ["True"], done.stdout[-500:] + done.stderr[-3000:]
