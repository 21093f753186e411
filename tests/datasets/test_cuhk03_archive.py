"""CUHK03's archive, an HDF5 file of MATLAB: unpacked as torchreid describes, all or nothing, then read in both protocols."""

import json
import logging
import os

import cv2
import numpy as np
import pytest
from cuhk03_files import unpack_naively, write_archive
from scipy.io import savemat

from vitreid.common.errors import MissingPackageError, UserError
from vitreid.common.inputs import hdf5_file, reading_process
from vitreid.common.inputs.hdf5_file import read_cells
from vitreid.datasets import ReadOptions, read_dataset
from vitreid.datasets.published.classic import cuhk03_archive
from vitreid.datasets.published.classic.cuhk03_archive import IMAGES, SPLITS, unpack_cuhk03
from vitreid.tools.published.dataset_page import main

PEOPLE = (3, 2, 1, 1, 2)
TESTS = [[(1, 2), (5, 1)], [(2, 1), (1, 1)]]


def some(kind, pair, person):
    """Some images are missing, one person has one view only."""
    if (pair, person) == (1, 1):
        return range(5)
    return [number for number in range(10) if (number + person + (kind == "labeled")) % 4]


def archive_in(root, name="cuhk03/cuhk03_release/cuhk-03.mat", **options):
    return root / name, write_archive(root / name, PEOPLE, some, TESTS, **options)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_unpacking_makes_the_images_and_splits_of_the_naive_twin(tmp_path, compression, capsys):
    archive, made = archive_in(tmp_path, compression=compression)
    unpack_naively(archive, tmp_path / "twin")
    assert main(["--unpack", "cuhk03", str(tmp_path)]) == 0
    folder, printed = tmp_path / "cuhk03", capsys.readouterr().out
    assert f"{folder / 'images_labeled'}: {sum(key[0] == 'labeled' for key in made)} images of 9 people" in printed
    assert f"{folder / SPLITS[1]}: 2 splits" in printed
    for name in IMAGES:
        files = sorted(os.listdir(folder / name))
        assert files == sorted(os.listdir(tmp_path / "twin" / name)) and len(files) > 40
        for file in files:
            assert (cv2.imread(str(folder / name / file)) == cv2.imread(str(tmp_path / "twin" / name / file))).all()
    for images, name in zip(IMAGES, SPLITS, strict=True):
        ours, twin = (json.loads((place / name).read_text()) for place in (folder, tmp_path / "twin"))
        for mine, other in zip(ours, twin, strict=True):
            for part in ("train", "query", "gallery"):
                assert mine[part] == [[f"{images}/{file}", *labels] for file, *labels in other[part]]
            assert mine["num_query_pids"] == 2 and mine["num_train_imgs"] == len(other["train"])
    assert sorted(os.listdir(folder)) == sorted(["cuhk03_release", *IMAGES, *SPLITS])
    image = cv2.imread(str(folder / "images_detected" / "1_002_2_06.png"))[..., ::-1]
    assert (image == made["detected", 0, 1, 5]).all()


@pytest.mark.parametrize("name", ["cuhk03/cuhk-03.mat", "CUHK03_release/CUHK-03.mat", "cuhk-03.mat"])
def test_the_archive_is_found_in_other_places_and_the_images_by_the_reader(tmp_path, name):
    archive_in(tmp_path, name)
    unpack_cuhk03(tmp_path)
    data = read_dataset("cuhk03-detected", tmp_path, ReadOptions(split_seed=1))
    assert {os.path.basename(record.path)[:5] for record in data.query} == {"2_001", "1_001"}


def test_a_root_without_the_archive_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cuhk03 not found .*cuhk03_release/cuhk-03\.mat"):
        unpack_cuhk03(tmp_path)


@pytest.mark.parametrize("name", ["cuhk03-labeled", "cuhk03-np-labeled"])
def test_a_reader_says_that_the_archive_is_not_unpacked(tmp_path, name):
    archive, _ = archive_in(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        read_dataset(name, tmp_path)
    hint = f"{archive} is there, but not unpacked: run `vitreid datasets --unpack cuhk03 {tmp_path}`"
    assert str(error.value).endswith(hint)
    unpack_cuhk03(tmp_path)
    if name == "cuhk03-np-labeled":  # its `.mat` file is missing still, and no hint leads astray
        with pytest.raises(FileNotFoundError) as error:
            read_dataset(name, tmp_path)
        assert "not unpacked" not in str(error.value)


@pytest.mark.parametrize("name", [*IMAGES, *SPLITS])
def test_nothing_is_replaced(tmp_path, name):
    archive_in(tmp_path)
    (tmp_path / "cuhk03" / name).mkdir()
    with pytest.raises(FileExistsError, match=f"{name} exists, and nothing is replaced"):
        unpack_cuhk03(tmp_path)
    assert sorted(os.listdir(tmp_path / "cuhk03")) == sorted([name, "cuhk03_release"])


@pytest.mark.parametrize("moment", ["images", "moves"])
def test_all_is_written_or_nothing(tmp_path, monkeypatch, moment):
    archive_in(tmp_path)
    real, calls = cuhk03_archive.encode, []

    def encode(*args):
        calls.append(args)
        if len(calls) == 20:
            raise OSError("No space left on device")
        return real(*args)

    if moment == "images":
        monkeypatch.setattr(cuhk03_archive, "encode", encode)
    else:
        monkeypatch.setattr(cuhk03_archive, "SPLITS", [SPLITS[0], "no folder/splits.json"])
        monkeypatch.setattr(cuhk03_archive.Path, "write_text", lambda *args, **options: None)
    with pytest.raises(OSError):
        unpack_cuhk03(tmp_path)
    assert os.listdir(tmp_path / "cuhk03") == ["cuhk03_release"]
    monkeypatch.undo()
    unpack_cuhk03(tmp_path)


def broken(path, change):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "r+") as file:
        change(h5py, file)


def first_image(file):
    return file[file[file["labeled"][0, 0]][1, 0]]


def _other(values):
    def change(h5py, file):
        name = first_image(file).name
        del file[name]
        reference = file.create_dataset(name, data=values).ref
        people = file[file["labeled"][0, 0]]
        people[1, 0] = reference

    return change


def _outside(h5py, file):
    file.create_dataset("secret", (100,), np.uint8, external=[("/etc/hostname", 0, 100)])
    file[file["labeled"][0, 0]][1, 0] = file["secret"].ref


def _virtual(h5py, file):
    layout = h5py.VirtualLayout((3, 4, 8), np.uint8)
    layout[...] = h5py.VirtualSource("/etc/hostname", "x", (3, 4, 8))
    file[file["labeled"][0, 0]][1, 0] = file.create_virtual_dataset("virtual", layout).ref


def _huge(h5py, file):
    """Some kB that say they are a terabyte."""
    dataset = file.create_dataset("huge", (3, 2**19, 2**19), np.uint8, chunks=(1, 64, 64))
    file[file["labeled"][0, 0]][1, 0] = dataset.ref


def _loop(h5py, file):
    file[file["labeled"][0, 0]][1, 0] = file["labeled"].ref


def _link(h5py, file):
    del file["testsets"]
    file["testsets"] = h5py.ExternalLink("/etc/hostname", "x")


DAMAGES = {
    "floats in the place of an image": (_other(np.zeros((3, 4, 8))), r"labeled.*holds float64.*no cell of CUHK03"),
    "four channels": (_other(np.zeros((4, 4, 8), np.uint8)), "expected an image"),
    "text": (_other(np.array([b"abc", b"d"])), "no numbers"),
    "values in another file": (_outside, "lies in other files"),
    "values of another HDF5 file": (_virtual, "lies in other files"),
    "a terabyte": (_huge, "more than 67108864"),
    "cells in a circle": (_loop, "more than 3 others"),
    "a link to another file": (_link, "no variable testsets"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_strangers_archive_is_refused_and_leaves_nothing(tmp_path, damage):
    archive, _ = archive_in(tmp_path)
    change, words = DAMAGES[damage]
    broken(archive, change)
    with pytest.raises(UserError, match=f"cuhk-03.mat.*{words}"):
        unpack_cuhk03(tmp_path)
    assert os.listdir(tmp_path / "cuhk03") == ["cuhk03_release"]


def test_a_file_of_another_form_is_named(tmp_path):
    pytest.importorskip("h5py")
    (tmp_path / "cuhk-03.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(1000))
    with pytest.raises(UserError, match=r"cuhk-03\.mat is damaged or no file of MATLAB's version 7\.3"):
        unpack_cuhk03(tmp_path)


def test_a_truncated_archive_is_named(tmp_path):
    archive, _ = archive_in(tmp_path)
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(UserError, match=r"cuhk-03\.mat is damaged"):
        unpack_cuhk03(tmp_path)
    assert os.listdir(tmp_path / "cuhk03") == ["cuhk03_release"]


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
@pytest.mark.parametrize(
    "script, error, words",
    [
        ("import os; os.kill(os.getpid(), 11)", UserError, "ended by signal 11"),
        ("while True: pass", UserError, "not read within 0.5 s"),
        ("import sys; sys.exit(3)", MissingPackageError, r'pip install "vitreid\[hdf5\]"'),
    ],
)
def test_a_reader_that_ends_or_hangs_is_named(tmp_path, monkeypatch, script, error, words):
    (tmp_path / "reader.py").write_text(script)
    (tmp_path / "a.mat").write_bytes(b"x")
    monkeypatch.setattr(reading_process, "SCRIPT", tmp_path / "reader.py")
    monkeypatch.setattr(hdf5_file, "PATIENCE", 0.5 if "while" in script else 60)
    with pytest.raises(error, match=f"a.mat.*{words}"):
        list(read_cells(tmp_path / "a.mat", ["labeled"]))


def test_more_than_the_stated_size_is_refused(tmp_path, monkeypatch):
    archive_in(tmp_path)
    monkeypatch.setattr(hdf5_file, "ALL_BYTES", 1000)
    with pytest.raises(UserError, match=r"cuhk-03\.mat unpacks to more than"):
        unpack_cuhk03(tmp_path)


@pytest.mark.slow
def test_an_archive_of_the_published_size_is_read_in_both_protocols_without_a_warning(tmp_path, caplog):
    """1,467 people of five camera pairs, 14,096 and 14,097 images; the images are small."""
    people = (843, 440, 77, 58, 49)
    number = {"labeled": 14096, "detected": 14097}
    order = {(pair, person): place for place, (pair, person) in enumerate(_everybody(people))}

    def images(kind, pair, person):
        """Ten for the first people and nine for the others, so that all together are as many as published."""
        return range(10 if order[pair, person] < number[kind] - 9 * 1467 else 9)

    tests = [[(pair + 1, person + 1) for pair, person in _everybody(people)[split::14][:100]] for split in range(20)]
    tests[14:] = [[(1, split * 100 + person + 1) for person in range(100)] for split in range(6)]
    write_archive(tmp_path / "cuhk03" / "cuhk03_release" / "cuhk-03.mat", people, images, tests, shape=(4, 2))
    unpack_cuhk03(tmp_path)
    for kind, counts in {"labeled": (7368, 1400, 5328), "detected": (7365, 1400, 5332)}.items():
        names = sorted(os.listdir(tmp_path / "cuhk03" / f"images_{kind}"))
        assert len(names) == number[kind]
        _new_protocol(tmp_path / "cuhk03" / f"cuhk03_new_protocol_config_{kind}.mat", names, counts)
        with caplog.at_level(logging.WARNING):
            new = read_dataset(f"cuhk03-np-{kind}", tmp_path)
            for split in (0, 19):
                first = read_dataset(f"cuhk03-{kind}", tmp_path, ReadOptions(split_seed=split))
                assert len({record.pid for record in first.query}) == 100
        assert (len(new.train), len(new.query), len(new.gallery)) == counts
    assert caplog.text == ""


def _everybody(people):
    return [(pair, person) for pair, number in enumerate(people) for person in range(number)]


def _new_protocol(path, names, counts):
    """Write a file in the form of the new protocol's, with the published numbers of people and images."""
    who = [name[:5] for name in names]
    everybody = sorted(set(who))
    train_people = _with_images(who, everybody, 767, counts[0])
    labels = [everybody.index(one) + 1 for one in who]
    train = [row for row, one in enumerate(who) if one in train_people]
    test = [row for row, one in enumerate(who) if one not in train_people]
    seen, query = set(), []
    for row in test:  # one image of each view of each person
        if (key := names[row][:7]) not in seen:
            seen.add(key)
            query.append(row)
    gallery = sorted(set(test) - set(query))
    rows = {"train_idx": train, "query_idx": query, "gallery_idx": gallery}
    columns = {"labels": labels, "camId": [int(name[6]) for name in names]}
    held = {**columns, **{key: [row + 1 for row in found] for key, found in rows.items()}}
    filelist = np.array(names, object)[:, None]
    savemat(path, {"filelist": filelist, **{key: np.array(values)[:, None] for key, values in held.items()}})


def _with_images(who, everybody, number, images):
    """Return `number` people who have `images` images together, of people who have nine or ten each."""
    counts = {one: who.count(one) for one in everybody}
    tens = [one for one in everybody if counts[one] == 10]
    nines = [one for one in everybody if counts[one] == 9]
    many = images - 9 * number
    return {*tens[:many], *nines[: number - many]}
