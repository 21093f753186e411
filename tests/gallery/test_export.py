"""Export: what is read from where, that nothing is lost or done twice, and that kill -9 at any point changes no byte."""

import csv
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from vitreid.configs import load_config
from vitreid.datasets import CorruptImageError, ReidData
from vitreid.gallery import Gallery
from vitreid.gallery.export import export_plan
from vitreid.gallery.export.sources import FolderSource, open_source
from vitreid.model import ModelSpec, ReidModel, save_deploy
from vitreid.processor.distributed.process_group import Ranks
from vitreid.processor.embedding import embedder as embedder_module
from vitreid.processor.embedding.embedder import Embedder
from vitreid.processor.runs.checkpoint import describe_model
from vitreid.tools import export as export_tool

module = import_module("vitreid.gallery.export.export_job")  # the room exports a function of that name
WORDS = ["INPUT.SIZE_TEST", "(32,16)", "INPUT.SIZE_TRAIN", "(32,16)", "MODEL.DEVICE", "cpu"]
NUM_IMAGES = 22  # of the folder; with parts of 8 and batches of 4 the last of either is short


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """An untrained model with side information of Market-1501's first camera and of one called door."""
    torch.manual_seed(0)
    cameras = ("market1501/c1", "door")
    spec = ModelSpec(
        "vit_tiny_patch16_224", (32, 16), embed_dim=16, depth=1, num_heads=2, sie_camera=True, cameras=cameras
    )
    path = tmp_path_factory.mktemp("model") / "best.safetensors"
    about = describe_model(load_config(None, WORDS), ReidData("none", [], [], [], ()), {}, {})
    save_deploy(path, ReidModel(spec), about)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images in a folder and one below it, and files that are none."""
    folder, rng = tmp_path_factory.mktemp("data") / "crops", np.random.default_rng(0)
    (folder / "night").mkdir(parents=True)
    for number in range(NUM_IMAGES):
        place = folder / "night" if number % 3 == 0 else folder
        pixels = rng.integers(0, 256, (32, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(place / f"{number % 5 - 1:04d}_c{number % 2 + 1}s1_{number:06d}_00.png"), pixels)
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_text("nor this")
    return folder


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(export_plan, "PART_ROWS", 8)


def export(weights, source, output, **options):
    return module.export(
        weights, str(source), output, **{"batch_size": 4, "device": "cpu", "precision": "fp32", **options}
    )


def column(gallery, name):
    return gallery.records[name].to_pylist()


def write_csv(path, *lines):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return path


@pytest.fixture(scope="module")
def whole(weights, folder, tmp_path_factory):
    """The gallery of an export that was not interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_plan, "PART_ROWS", 8)
        return Gallery.open(export(weights, folder, tmp_path_factory.mktemp("whole") / "G"))


def same_files(a, b):
    return all(
        (Path(a) / name).read_bytes() == (Path(b) / name).read_bytes() for name in ("embeddings.npy", "records.parquet")
    )


def test_a_folder_becomes_a_gallery_in_the_order_of_its_names(whole, folder, weights):
    paths = column(whole, "path")
    assert len(whole) == len(set(paths)) == NUM_IMAGES
    below = [path for path in paths if "/night/" in path]
    assert paths == sorted(set(paths) - set(below)) + below and below == sorted(below)
    assert np.array_equal(np.load(whole.path / "embeddings.npy"), whole.embeddings)
    assert whole.info.model == Embedder(weights, "cpu").fingerprint
    assert np.allclose(whole.embeddings, Embedder(weights, "cpu", "fp32")(paths), atol=1e-6)


def test_nothing_is_guessed_from_names_unless_asked(whole, weights, folder, tmp_path):
    assert set(column(whole, "pid")) == set(column(whole, "camera")) == {None}
    named = Gallery.open(export(weights, folder, tmp_path / "G", names="market1501"))
    assert set(column(named, "pid")) == {None, "0", "1", "2", "3"}, "-1 is junk, nobody's name"
    assert set(column(named, "camera")) == {"market1501/c1", "market1501/c2"}
    expected = Embedder(weights, "cpu", "fp32")(column(named, "path"), column(named, "camera"))
    assert np.allclose(named.embeddings, expected, atol=1e-6), "a camera that the model knows is used"


def test_links_that_lead_back_end_there(tmp_path):
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((4, 2, 3), np.uint8))
    (tmp_path / "again").symlink_to(tmp_path)
    assert [row.path for row in FolderSource(tmp_path).rows()] == [str(tmp_path / "1.png")]


def test_a_manifest_keeps_what_it_knows(weights, folder, tmp_path):
    files = sorted(folder.glob("[!.]*.png"))[:3]
    lines = [
        ("path", "camid", "viewid", "time", "tracklet", "colour"),
        (files[0], "door", "front", "12.5", "t 1", "red"),
        ("1.png", "", "", "1970-01-01T00:01:00", "", ""),
        (files[2], "roof", "", "1970-01-01T01:00:00+01:00", "", "blue"),
    ]
    (tmp_path / "1.png").write_bytes(files[1].read_bytes())
    gallery = Gallery.open(export(weights, write_csv(tmp_path / "m.csv", *lines), tmp_path / "G"))
    assert column(gallery, "path") == [str(files[0]), str(tmp_path / "1.png"), str(files[2])]
    assert column(gallery, "camera") == ["door", None, "roof"]
    assert column(gallery, "time") == [12.5, 60.0, 0.0]
    assert column(gallery, "colour") == ["red", None, "blue"]
    assert column(gallery, "tracklet") == ["t 1", None, None] and column(gallery, "pid") == [None] * 3
    expected = Embedder(weights, "cpu", "fp32")(files, ["door", None, "roof"])
    assert np.allclose(gallery.embeddings, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([("name", "pid"), ("1.png", "1")], r"m\.csv:1.*column path.*name, pid"),
        ([("path", "time"), ("1.png", "1"), ("2.png", "noon")], r"m\.csv:3.*noon"),
        ([("path", "time"), ("1.png", "inf")], r"m\.csv:2.*finite"),
        ([("path",), ("a,b", "c")], r"m\.csv:2.*more values"),
        ([("path", "pid"), ("", "1")], r"m\.csv:2.*path .*empty"),
        ([("path", "camid", "camera"), ("1.png", "1", "1")], r"m\.csv:1.*camid and camera both mean camera"),
        ([("path", "id"), ("1.png", "1")], "column 'id'"),
        ([("path", "pid")], "no image"),
        (
            [("video", "frame", "x", "y", "width", "height"), ("v", "one", 0, 0, 1, 1)],
            r"m\.csv:2.*frame ",
        ),
        (
            [("video", "frame", "x", "y", "width", "height"), ("v", "1.5", 0, 0, 1, 1)],
            r"frame .*'1\.5'",
        ),
        ([("video", "frame", "x", "y", "width", "height"), *[("v", n, 0, 0, 1, 1) for n in (2, 1)]], r"m\.csv.*sort "),
    ],
)
def test_a_wrong_line_is_named(weights, tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        export(weights, write_csv(tmp_path / "m.csv", *lines), tmp_path / "G")
    assert not (tmp_path / "G").exists() and not (tmp_path / "G.partial").exists()


def test_a_split_of_a_data_set_keeps_people_and_cameras(people, weights, tmp_path):
    output = export(weights, "market1501:query", tmp_path / "G", root=str(people / "synthetic"))
    gallery = Gallery.open(output)
    files = sorted((people / "synthetic" / "query").glob("*.jpg"))
    assert column(gallery, "path") == [str(path) for path in files]
    assert column(gallery, "pid") == [str(int(path.name[:4])) for path in files]
    assert column(gallery, "camera") == [f"market1501/c{path.name[6]}" for path in files]


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("market1501:test", {}, "'test'.*train, query, gallery"),
        ("manifest:query", {}, "CSV file"),
        ("nowhere", {}, "nowhere.*exist"),
        ("market1501:query", {"names": "market1501"}, "--names"),
    ],
)
def test_a_wrong_source_is_named(source, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_source(source, **options)


def make_video(path, num_frames=6):
    """Each frame has one grey level, and a white square at (8, 4)."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 24))
    for number in range(num_frames):
        frame = np.full((24, 32, 3), 40 * number, np.uint8)
        frame[4:12, 8:16] = 255
        writer.write(frame)
    writer.release()
    return path


def test_boxes_are_cut_out_of_their_frames(weights, tmp_path):
    make_video(tmp_path / "a.avi")
    make_video(tmp_path / "b.avi")
    boxes = [
        ("a.avi", 1, 8, 4, 8, 8),
        ("a.avi", 1, 20, 0, 8, 24),
        ("a.avi", 4, -5, 14, 10, 50),
        ("b.avi", 2, 20, 0, 8, 24),
    ]
    lines = [(*box, "t", "door") for box in boxes]
    table = write_csv(tmp_path / "t.csv", ("video", "frame", "x", "y", "width", "height", "tracklet", "camera"), *lines)
    source = open_source(str(table))
    crops = [source.read(row) for row in source.rows()]
    assert [crop.shape for crop in crops] == [(8, 8, 3), (24, 8, 3), (10, 5, 3), (24, 8, 3)]
    assert [round(crop.mean() / 40) for crop in crops] == [6, 1, 4, 2]
    gallery = Gallery.open(export(weights, table, tmp_path / "G"))
    assert column(gallery, "frame") == [1, 1, 4, 2] and column(gallery, "x") == [8.0, 20.0, -5.0, 20.0]
    assert column(gallery, "path") == [str(tmp_path / box[0]) for box in boxes] and set(column(gallery, "camera")) == {
        "door"
    }


def test_boxes_that_are_not_there_are_left_out(weights, tmp_path):
    make_video(tmp_path / "a.avi")
    boxes = [
        ("a.avi", 0, 0, 0, 8, 8),
        ("a.avi", 1, 90, 0, 8, 8),
        ("a.avi", 99, 0, 0, 8, 8),
        ("none.avi", 0, 0, 0, 8, 8),
    ]
    table = write_csv(tmp_path / "t.csv", ("video", "frame", "x", "y", "width", "height"), *boxes)
    gallery = Gallery.open(export(weights, table, tmp_path / "G", corrupt="skip"))
    lines = (gallery.path / "skipped.txt").read_text().splitlines()
    assert (
        len(gallery) == 1
        and ["outside" in lines[0], "no frame 99" in lines[1], "no such video" in lines[2]] == [True] * 3
    )


def test_unreadable_images_stop_the_export_or_are_listed(weights, folder, tmp_path):
    good = sorted(folder.glob("[!.]*.png"))
    (tmp_path / "cut.png").write_bytes(good[3].read_bytes()[:100])
    names = [*good[:6], tmp_path / "cut.png", *good[6:9], tmp_path / "gone.png"]
    table = write_csv(tmp_path / "m.csv", ("path",), *[(name,) for name in names])
    with pytest.raises(CorruptImageError, match=r"cut\.png.*--corrupt skip"):
        export(weights, table, tmp_path / "G")
    gallery = Gallery.open(export(weights, table, tmp_path / "G", corrupt="skip"))
    assert column(gallery, "path") == [str(path) for path in good[:9]]
    lines = (gallery.path / "skipped.txt").read_text().splitlines()
    assert [Path(line.split(": ")[0]).name for line in lines] == ["cut.png", "gone.png"]


def test_a_source_without_a_readable_image_makes_no_gallery(weights, tmp_path):
    table = write_csv(tmp_path / "m.csv", ("path",), ("gone.png",))
    with pytest.raises(ValueError, match=r"\b1 images.*gone\.png"):
        export(weights, table, tmp_path / "G", corrupt="skip")


KILLER = """
import os, random, shutil, signal, sys
from importlib import import_module

from killed_process import FILE_STEPS, die_at, in_child

module = import_module("vitreid.gallery.export.export_job")
import_module("vitreid.gallery.export.export_plan").PART_ROWS = 8
import_module("vitreid.gallery.export.work_folder").JOIN_ROWS = 8
weights, source, output = sys.argv[1:]

def attempt(deadly):
    die_at(deadly, [*FILE_STEPS, (shutil, "rmtree"), (module.Embedder, "embed")])
    module.export(weights, source, output, batch_size=4, device="cpu", precision="fp32")

rng = random.Random(int(os.environ.get("SEED", 0)))
ends = [in_child(attempt, rng.randint(2, 12)) for _ in range(4)]
deadly = 12
while ends[-1] == -signal.SIGKILL:  # later and later, up to an attempt that lives to its end
    deadly += rng.randint(4, 9)
    ends.append(in_child(attempt, deadly))
print(ends.count(-signal.SIGKILL), in_child(attempt, 0))
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs os.fork, which Windows lacks")
@pytest.mark.slow
def test_kill_9_at_any_step_changes_no_byte(weights, folder, whole, tmp_path):
    """Attempts are killed before a write, a rename, a deletion or a batch, drawn at random; the last is left alone."""
    command = [sys.executable, "-c", KILLER, weights, str(folder), str(tmp_path / "G")]
    run = subprocess.run(
        command, env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}, capture_output=True, check=False
    )
    kills, last = map(int, run.stdout.split()[-2:])
    assert kills >= 10 and last == 0, run.stderr.decode()[-2000:]
    assert same_files(tmp_path / "G", whole.path)
    assert len(Gallery.open(tmp_path / "G")) == NUM_IMAGES
    assert [path.name for path in tmp_path.iterdir()] == ["G"], "nothing is left behind"


def test_finished_parts_are_not_embedded_again(weights, folder, tmp_path, monkeypatch, caplog):
    embed, batches = Embedder.embed, []

    def failing(self, planes, *names):
        batches.append(len(planes))
        if len(batches) == 4:
            raise OSError("the plug was pulled")
        return embed(self, planes, *names)

    monkeypatch.setattr(Embedder, "embed", failing)
    with pytest.raises(OSError, match="plug"):
        export(weights, folder, tmp_path / "G")
    assert not (tmp_path / "G").exists()
    export(weights, folder, tmp_path / "G")
    assert sum(batches[4:]) == NUM_IMAGES - 8 and "8 of 22 images are done" in caplog.text


def test_a_finished_export_run_again_does_nothing(weights, folder, tmp_path, monkeypatch, caplog):
    export(weights, folder, tmp_path / "G")
    monkeypatch.setattr(Embedder, "embed", None)
    export(weights, folder, tmp_path / "G")
    assert "nothing is left to do" in caplog.text


def test_several_processes_make_the_same_bytes_as_one(weights, folder, whole, tmp_path):
    """Two processes in turn: the second does its share while the first waits, and the other way round."""
    shares = []

    def job():
        embedder = Embedder(weights, "cpu", "fp32", 4)
        source = open_source(str(folder))
        plan = export_plan.make_plan(embedder, source, str(folder), "float32")
        return module.ExportJob(tmp_path / "G", "gallery", "error", source, embedder, plan)

    def others():
        shares.append(job().work.folder.is_dir())
        if len(shares) == 1:
            job().run(Ranks(1, 2))

    job().run(Ranks(0, 2, others))
    assert shares == [True, True] and same_files(tmp_path / "G", whole.path)


RANK = """
import sys
from importlib import import_module
from vitreid.tools.export import main
import_module("vitreid.gallery.export.export_plan").PART_ROWS = 8
sys.exit(main(sys.argv[1:]))
"""


def export_on_two_processes(weights, folder, output):
    """Do what torchrun does, without its seconds of overhead; return the exit status of both, and what they said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    words = ["--weights", weights, "--input", str(folder), "--output", str(output), "--batch-size", "4"]
    words += ["--device", "cpu", "--precision", "fp32"]
    own = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, *words],
            env={**os.environ, **own, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], said


@pytest.mark.slow
def test_two_real_processes_make_the_same_bytes_as_one(weights, folder, whole, tmp_path):
    status, said = export_on_two_processes(weights, folder, tmp_path / "G")
    assert status == [0, 0], "\n".join(said)[-4000:]
    assert same_files(tmp_path / "G", whole.path) and not (tmp_path / "G.partial").exists()


def test_another_export_is_not_mixed_in(weights, folder, tmp_path, monkeypatch):
    """Unfinished, then finished work under other options is refused by name, and replaced if asked."""
    with monkeypatch.context() as patch:
        patch.setattr(module.ExportJob, "join", lambda self: None)
        export(weights, folder, tmp_path / "G")
    with pytest.raises(ValueError, match="unfinished export.*dtype was float32, is now float16"):
        export(weights, folder, tmp_path / "G", dtype="float16")
    export(weights, folder, tmp_path / "G", dtype="float16", overwrite=True)
    assert Gallery.open(tmp_path / "G").embeddings.dtype == np.float16
    with pytest.raises(ValueError, match="--dtype: .* holds float16, got float32.*--overwrite"):
        export(weights, folder, tmp_path / "G", dtype="float32")
    export(weights, folder, tmp_path / "G", overwrite=True)
    assert Gallery.open(tmp_path / "G").embeddings.dtype == np.float32


def test_overwriting_never_loses_images_kept_in_the_gallerys_folder(weights, folder, tmp_path, monkeypatch):
    """Refused before the work, and after it if they came meanwhile."""
    output = export(weights, folder, tmp_path / "G")
    embed = module.ExportJob.embed

    def embed_and_put_an_image_there(job, ranks):
        embed(job, ranks)
        (output / "mine.jpg").write_bytes(b"mine")

    monkeypatch.setattr(module.ExportJob, "embed", embed_and_put_an_image_there)
    for _ in range(2):
        with pytest.raises(FileExistsError, match=r"--overwrite.*mine\.jpg"):
            export(weights, folder, output, overwrite=True)
        assert (output / "mine.jpg").read_bytes() == b"mine"
        assert len(Gallery.open(output)) == NUM_IMAGES


def test_a_folder_that_is_no_gallery_is_never_overwritten(weights, folder, tmp_path):
    (tmp_path / "G").mkdir()
    (tmp_path / "G" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=rf"{tmp_path}/G .*never overwritten"):
        export(weights, folder, tmp_path / "G", overwrite=True)
    (tmp_path / "H.partial").mkdir()
    (tmp_path / "H.partial" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"H\.partial.*thesis\.tex"):
        export(weights, folder, tmp_path / "H", overwrite=True, resume=False)
    assert len(list(tmp_path.rglob("thesis.tex"))) == 2


def test_a_source_that_changed_is_noticed(weights, folder, tmp_path):
    table = write_csv(tmp_path / "m.csv", ("path",), *[(path,) for path in sorted(folder.glob("[!.]*.png"))[:3]])
    export(weights, table, tmp_path / "G")
    write_csv(table, ("path",), *[(path,) for path in sorted(folder.glob("[!.]*.png"))[:4]])
    assert len(Gallery.open(export(weights, table, tmp_path / "G"))) == 4


def test_an_embedding_that_is_not_a_number_is_not_kept(weights, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Embedder, "embed", lambda self, planes, *names: np.full((len(planes), 16), 1e6, np.float32))
    with pytest.raises(ValueError, match=r"\.png.*float32.*float16"):
        export(weights, folder, tmp_path / "G", dtype="float16")


def test_other_formats_are_one_file(weights, folder, whole, tmp_path):
    output = export(weights, folder, tmp_path / "new" / "people.npz", format="npz")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["people.npz"], "its folder is made"
    with np.load(output, allow_pickle=False) as arrays:
        assert any(np.array_equal(arrays[name], whole.embeddings) for name in arrays.files)


def test_the_tool_reports_a_mistake_in_one_line(weights, folder, tmp_path, capsys):
    words = ["--weights", weights, "--input", str(folder), "--device", "cpu"]
    (tmp_path / "file").write_text("mine")
    assert export_tool.main([*words, "--output", str(tmp_path / "file" / "G")]) == 2
    assert f"{tmp_path / 'file'} is a file" in capsys.readouterr().err
    assert export_tool.main([*words, "--output", str(tmp_path / "G"), "--format", "xls"]) == 2
    assert "gallery, csv" in capsys.readouterr().err
    assert export_tool.main([*words, "--output", str(tmp_path / "G"), "--dtype", "float16"]) == 0
    plan = json.loads((tmp_path / "G" / "export.json").read_text())
    assert plan["count"] == NUM_IMAGES and plan["dtype"] == "float16"


def test_a_second_export_into_the_same_place_waits_its_turn(weights, folder, tmp_path):
    embedder, source = Embedder(weights, "cpu", "fp32", 4), open_source(str(folder))
    plan = export_plan.make_plan(embedder, source, str(folder), "float32")
    job = module.ExportJob(tmp_path / "G", "gallery", "error", source, embedder, plan)
    with job.work.locked():
        job.work.begin(replace(plan))
        with pytest.raises(BlockingIOError, match=f"process {os.getpid()}"):
            export(weights, folder, tmp_path / "G")


def copies(folder, place, count=3):
    """Copy images into a new folder, where they may be changed."""
    place.mkdir()
    for number, path in enumerate(sorted(folder.glob("[!.]*.png"))[:count]):
        (place / f"{number}.png").write_bytes(path.read_bytes())
    return place


def test_images_replaced_under_the_same_names_are_noticed(weights, folder, tmp_path):
    images = copies(folder, tmp_path / "images")
    export(weights, images, tmp_path / "G")
    (images / "1.png").write_bytes((images / "0.png").read_bytes())
    gallery = Gallery.open(export(weights, images, tmp_path / "G"))
    assert gallery.ids[gallery.is_live].tolist() == [0, 2, 3] and gallery.state.suppressed == 0
    assert np.allclose(gallery.embeddings[0], gallery.embeddings[3], atol=1e-6)


def interrupted(patch, number):
    """Let the batch of that number fail; return the sizes of all batches."""
    embed, batches = Embedder.embed, []

    def failing(self, planes, *names):
        batches.append(len(planes))
        if len(batches) == number:
            raise OSError("the plug was pulled")
        return embed(self, planes, *names)

    patch.setattr(Embedder, "embed", failing)
    return batches


def test_an_image_replaced_during_an_interruption_is_embedded_again_with_its_part(
    weights, folder, tmp_path, monkeypatch
):
    images = copies(folder, tmp_path / "images", 12)
    batches = interrupted(monkeypatch, 3)
    with pytest.raises(OSError, match="plug"):
        export(weights, images, tmp_path / "G")
    (images / "1.png").write_bytes((images / "0.png").read_bytes())
    rows = Gallery.open(export(weights, images, tmp_path / "G")).embeddings
    assert batches[3:] == [4, 4, 4], "the first part too"
    assert np.allclose(rows[0], rows[1], atol=1e-6)


def test_a_finished_export_takes_over_a_threshold_calibrated_since(weights, folder, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    output = export(weights, folder, tmp_path / "G")
    threshold = {"distance": 0.75, "metric": "euclidean", "fmr": 0.01}
    calibrated = SimpleNamespace(limit=threshold)
    monkeypatch.setattr(embedder_module, "stored_calibration", lambda about: calibrated)
    export(weights, folder, output)
    assert (
        Gallery.open(output).info.threshold == threshold and "the threshold is now that of the weights" in caplog.text
    )
    caplog.clear()
    export(weights, folder, output)
    assert "threshold" not in caplog.text
    threshold["metric"] = "cosine"
    export(weights, folder, output)
    assert Gallery.open(output).info.threshold["metric"] == "euclidean" and "threshold is for cosine" in caplog.text


def test_an_export_with_gaps_is_not_called_finished(weights, folder, tmp_path, caplog):
    images = copies(folder, tmp_path / "images")
    good = (images / "1.png").read_bytes()
    (images / "1.png").write_bytes(good[:100])
    export(weights, images, tmp_path / "G", corrupt="skip")
    export(weights, images, tmp_path / "G", corrupt="skip")
    assert "without 1 images that could not be read" in caplog.text and "nothing is left" not in caplog.text
    with pytest.raises(CorruptImageError, match=r"1\.png"):
        export(weights, images, tmp_path / "G")
    (images / "1.png").write_bytes(good)
    assert len(Gallery.open(export(weights, images, tmp_path / "G"))) == 3
    assert (tmp_path / "G" / "skipped.txt").read_text() == ""


def test_parts_with_gaps_are_not_used_where_none_are_allowed(weights, folder, tmp_path, monkeypatch):
    images = copies(folder, tmp_path / "images", 12)
    (images / "1.png").write_bytes(b"")
    with monkeypatch.context() as patch:
        interrupted(patch, 3)
        with pytest.raises(OSError, match="plug"):
            export(weights, images, tmp_path / "G", corrupt="skip")
    with pytest.raises(CorruptImageError, match=r"1\.png.*empty"):
        export(weights, images, tmp_path / "G")
    batches = interrupted(monkeypatch, 0)
    assert len(Gallery.open(export(weights, images, tmp_path / "G", corrupt="skip"))) == 11
    assert batches == [4], "where gaps are allowed, the first part is done"


def test_no_resume_begins_anew_even_if_finished(weights, folder, tmp_path):
    export(weights, folder, tmp_path / "G")
    with pytest.raises(FileExistsError, match=r"G holds this export.*--overwrite"):
        export(weights, folder, tmp_path / "G", resume=False)


@pytest.mark.parametrize("is_running", [True, False])
def test_a_finished_export_leaves_the_work_of_another_alone(weights, folder, tmp_path, is_running):
    """The other one, in float16, is running; or it was killed, and can resume later."""
    export(weights, folder, tmp_path / "G")
    embedder, source = Embedder(weights, "cpu", "fp32", 4), open_source(str(folder))
    plan = export_plan.make_plan(embedder, source, str(folder), "float16")
    work = module.ExportJob(tmp_path / "G", "gallery", "error", source, embedder, plan).work
    with work.locked():
        work.begin(plan)
        if is_running:
            export(weights, folder, tmp_path / "G")
    export(weights, folder, tmp_path / "G")
    assert work.plan == plan


def test_a_name_that_is_not_utf8_is_told_before_anything_is_embedded(weights, folder, tmp_path, monkeypatch):
    images = copies(folder, tmp_path / "images")
    try:
        (images / "0.png").rename(os.fsdecode(os.fsencode(images) + b"/M\xfcller.png"))
    except OSError:
        pytest.skip("this system allows no such names")
    monkeypatch.setattr(Embedder, "embed", None)
    with pytest.raises(ValueError, match=r"M\\xfcller\.png'.*UTF-8"):
        export(weights, images, tmp_path / "G")


@pytest.mark.parametrize(
    ("format", "name"),
    [
        *[("npz", name) for name in ("file", "allow_pickle", "embeddings")],
        *[("mat", name) for name in ("embeddings", "größe", "1st", "two words", "x" * 32)],
        ("parquet", "embedding"),
    ],
)
def test_a_column_that_the_format_cannot_hold_is_told_before_anything_is_embedded(
    weights, folder, tmp_path, monkeypatch, format, name
):
    monkeypatch.setattr(Embedder, "embed", None)
    table = write_csv(tmp_path / "m.csv", ("path", name), (next(folder.glob("[!.]*.png")), "1"))
    with pytest.raises(ValueError, match=f"{format} .*'{name}'"):
        export(weights, table, tmp_path / "out", format=format)


def test_a_line_that_is_not_utf8_is_named(weights, tmp_path):
    table = tmp_path / "m.csv"
    table.write_bytes(b"path,pid\n" + b"1.png,1\n" * 5000 + b"M\xfcller.png,2\n")
    with pytest.raises(ValueError, match=r"m\.csv:5002.*UTF-8"):
        export(weights, table, tmp_path / "G")


def test_whole_numbers_as_pandas_writes_them_are_frames(tmp_path):
    columns = ("video", "frame", "x", "y", "width", "height")
    table = write_csv(tmp_path / "t.csv", columns, ("v", "12.0", 0, 0, 1, 1), ("v", "13", 0, 0, 1, 1))
    frames = [row.extra["frame"] for row in open_source(str(table)).rows()]
    assert frames == [12, 13] and all(type(frame) is int for frame in frames)
