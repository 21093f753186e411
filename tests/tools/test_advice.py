"""The advice of a message fits the command that prints it: no option of a config where the command has none."""

import errno
import os
import re

import numpy as np
import pytest
from PIL import Image

from vitreid import Embedder, Gallery
from vitreid.common import files
from vitreid.configs.defaults import OPTIONS
from vitreid.gallery import GalleryInfo
from vitreid.tools import check_data, convert, export, export_model, search, serve, summary, test, train
from vitreid.tools import gallery as gallery_tool
from vitreid.tools.cli.parser import MEMORY_REMEDY
from vitreid.tools.video import track

KEY = re.compile(rf"\b(?:{'|'.join(sorted({key.split('.')[0] for key in OPTIONS if '.' in key}))})\.[A-Z_]+|OUTPUT_DIR")
NO_CONFIG = {"search": search, "serve": serve, "export": export, "export-model": export_model, "track": track}
SEARCH = ["--gallery", "{gallery}", "--weights", "{weights}", "--query"]
EXPORT = ["--weights", "{weights}", "--output", "{out}", "--input"]
CASES = {  # command and arguments -> what the message says
    ("search", *SEARCH, "{cut}"): "cut.jpg: the image is cut short; replace or delete the file$",
    ("search", *SEARCH, "{folder}/huge.png"): "replace or delete",
    ("search", *SEARCH, "{image}", "--device", "cuda"): "device: cuda is not available.*choose auto",
    ("search", *SEARCH, "{image}", "--sheet", "{folder}/absent/s.png"): "--sheet: the folder .*absent does not exist",
    ("search", *SEARCH, "{image}", "--sheet", "{folder}"): "--sheet: .*is a folder",
    ("search", "--gallery", "{empty}", "--weights", "{weights}", "--query", "{image}"): "--gallery: .*holds no rows",
    (
        "search",
        "--gallery",
        "{gallery}",
        "--weights",
        "{damaged}",
        "--query",
        "{image}",
    ): "damaged.pth.*give another file",
    ("search", "--gallery", "{gallery}", "--weights", "", "--query", "{image}"): "--weights",
    ("serve", "--gallery", "{gallery}", "--weights", "{weights}", "--device", "cuda"): "device: cuda.*choose auto",
    ("export", *EXPORT, "{folder}"): "cut.jpg.*--corrupt skip",
    ("export", *EXPORT, "{folder}", "--device", "cuda"): "device: cuda",
    ("export", *EXPORT, "market1501:query", "--root", "{folder}/absent"): "--root: market1501 not found",
    ("export", *EXPORT, "folder:train", "--root", "{folder}/absent"): "--root",
    ("export", "--weights", "{damaged}", "--output", "{out}", "--input", "{folder}"): "damaged.pth",
    ("export-model", "--weights", "{damaged}", "--output", "{out}.onnx"): "damaged.pth",
    ("export-model", "--weights", "", "--output", "{out}.onnx"): "--weights",
    (
        "track",
        "--input",
        "{folder}/absent.mp4",
        "--detector",
        "motion",
        "--weights",
        "{weights}",
        "--output",
        "{out}",
    ): "absent.mp4",
    (
        "track",
        "--input",
        "{folder}",
        "--detector",
        "motion",
        "--weights",
        "{weights}",
        "--device",
        "cuda",
        "--output",
        "{out}",
    ): "cuda.*auto",
}


@pytest.fixture(scope="module")
def places(untrained, tmp_path_factory):
    """Files that the cases name: a whole and a cut image, a gallery and an empty one, and damaged weights."""
    root = tmp_path_factory.mktemp("advice")
    folder = root / "images"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 30, 3), dtype=np.uint8)).save(root / "whole.jpg")
    (folder / "cut.jpg").write_bytes((root / "whole.jpg").read_bytes()[:-200])
    (folder / "huge.png").write_bytes(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (10**5).to_bytes(4, "big") * 2 + b"\x08\2\0\0\0"
    )
    (root / "damaged.pth").write_bytes(b"PK\x03\x04 no archive")
    embedder = Embedder(untrained, "cpu")
    for name, images in (("gallery", [str(root / "whole.jpg")]), ("empty", [])):
        made = Gallery.create(root / name, GalleryInfo.of(embedder))
        if images:
            made.add(embedder(images), [{"path": path} for path in images], embedder.fingerprint)
    names = {name: root / name for name in ("gallery", "empty", "out")}
    files_ = {"cut": folder / "cut.jpg", "image": root / "whole.jpg", "damaged": root / "damaged.pth"}
    return {"folder": folder, "weights": untrained, **names, **files_}


def said(tool, words, capsys):
    """The message of a command that fails."""
    assert tool.main([str(word) for word in words]) == 2
    message = capsys.readouterr().err
    assert "error: " in message and "Traceback" not in message
    return message[message.rindex("error: ") :]


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case))
def test_a_command_without_a_config_names_none_of_its_options(case, places, capsys):
    name, *words = case
    message = said(NO_CONFIG[name], [word.format(**places) for word in words], capsys)
    assert re.search(CASES[case], message), message
    assert not KEY.search(message), message


def test_a_sheet_that_cannot_be_written_is_an_error_before_the_model_is_read(places, capsys, monkeypatch):
    def refuse(**_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(files, "TemporaryFile", refuse)
    monkeypatch.setattr(search, "Embedder", None)
    words = [word.format(**places) for word in SEARCH]
    message = said(search, [*words, places["image"], "--sheet", places["folder"] / "s.png"], capsys)
    assert re.search("--sheet: cannot write .*s.png: .*choose another place", message) and not KEY.search(message)


def test_check_data_finds_an_unwritable_output_before_it_reads(people, capsys, monkeypatch, tmp_path):
    def refuse(**_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(files, "TemporaryFile", refuse)
    monkeypatch.setattr(check_data, "build_checks", None)
    words = ["DATASETS.NAMES", "synthetic", "DATASETS.ROOT_DIR", people, "--json", tmp_path / "r.json"]
    assert "--json: cannot write" in said(check_data, words, capsys)


@pytest.mark.parametrize(
    ("tool", "remedy"), [(search, "end other programs"), (export, "lower --batch-size"), (train, MEMORY_REMEDY)]
)
def test_too_little_memory_is_met_with_an_option_of_the_command(tool, remedy, places, capsys, monkeypatch):
    def exhausted(*_, **__):
        raise MemoryError("not enough memory")

    name = {search: "Embedder", export: "export", train: "load_config"}[tool]
    monkeypatch.setattr(tool, name, exhausted)
    words = {search: [*SEARCH, "{image}"], export: [*EXPORT, "{folder}"], train: ["SOLVER.SEED", "1"]}[tool]
    message = said(tool, [word.format(**places) for word in words], capsys)
    assert remedy in message and bool(KEY.search(message)) == (tool is train)


def test_held_out_people_that_leave_too_few_are_named_with_their_option(tiny, capsys):
    message = said(train, [*tiny, "DATASETS.VAL_IDS", "7"], capsys)
    assert re.search(r"DATASETS\.VAL_IDS: cannot hold out 7 .*8 in all.*take 6 or fewer", message)


@pytest.mark.parametrize("suffix", ["mat", "npz", "pt", "csv"])
def test_features_of_other_programs_are_no_damaged_file(suffix, tmp_path, capsys):
    (tmp_path / f"f.{suffix}").write_bytes(b"\x89other")
    message = said(test, ["--features", tmp_path / f"f.{suffix}"], capsys)
    assert "damaged" not in message and "evaluate_retrieval" in message


def test_every_command_is_looked_at():
    """Those with KEY VALUE may name options; `gallery` and `film` are asked in their own tests."""
    with_config = {check_data, convert, summary, test, train}
    for tool in (*with_config, *NO_CONFIG.values(), gallery_tool):
        options = tool.get_parser()._option_string_actions
        assert ("--config_file" in options) == (tool in with_config), tool
