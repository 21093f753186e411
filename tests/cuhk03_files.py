"""CUHK03's archive as MATLAB 7.3 writes it: cell arrays are datasets of object references, and arrays are transposed."""

import json

import cv2
import numpy as np
import pytest


def write_archive(path, people, images, tests, shape=(8, 4), compression=None):
    """Write `cuhk-03.mat`; return the images, (kind, camera pair, person, number) -> (height, width, 3) RGB.

    Args:
        people: number of people of each camera pair.
        images: (kind, camera pair, person) -> numbers of the images that are there, all counted from 0.
        tests: for each split, its people for testing: (camera pair, person) from 1.
    """
    h5py = pytest.importorskip("h5py")
    rng, made = np.random.default_rng(0), {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        inside, count = file.create_group("#refs#"), iter(range(10**9))

        def cell(values, matlab_class, **attributes):
            options = {"compression": compression} if compression else {}
            dataset = inside.create_dataset(f"r{next(count)}", data=values.T, **options)
            dataset.attrs["MATLAB_class"] = np.bytes_(matlab_class)
            dataset.attrs.update(attributes)
            return dataset.ref

        def cells(references, name=""):
            """Write a cell array, (rows, columns) of references; return its own."""
            place = file if name else inside
            values = np.empty(references.T.shape, h5py.ref_dtype)
            values[...] = references.T
            dataset = place.create_dataset(name or f"r{next(count)}", data=values, dtype=h5py.ref_dtype)
            dataset.attrs["MATLAB_class"] = np.bytes_("cell")
            return dataset.ref

        for kind in ("labeled", "detected"):
            pairs = np.empty((len(people), 1), object)
            for pair, number in enumerate(people):
                found = np.empty((number, 10), object)
                for person in range(number):
                    numbers = images(kind, pair, person)
                    for place in range(10):
                        if place in numbers:
                            image = rng.integers(0, 256, (*shape, 3), np.uint8)
                            made[kind, pair, person, place] = image
                            found[person, place] = cell(image, "uint8")
                        else:  # as MATLAB writes []
                            found[person, place] = cell(np.zeros(2, np.uint64), "double", MATLAB_empty=np.uint8(1))
                pairs[pair, 0] = cells(found)
            cells(pairs, kind)
        lists = np.empty((len(tests), 1), object)
        for split, rows in enumerate(tests):
            lists[split, 0] = cell(np.array(rows, np.float64), "double")
        cells(lists, "testsets")
    return made


def unpack_naively(archive, folder):
    """Unpack the archive as torchreid describes it, without vitreid: images, and the lists of splits."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(archive, "r") as mat:
        for kind in ("labeled", "detected"):
            (folder / f"images_{kind}").mkdir(parents=True)
            known = []
            for pair, reference in enumerate(mat[kind][0]):
                camera_pair = mat[reference][:].T
                for person in range(camera_pair.shape[0]):
                    names = []
                    for number, image_reference in enumerate(camera_pair[person]):
                        image = mat[image_reference][:].T
                        if image.size == 0 or image.ndim < 3:
                            continue
                        name = f"{pair + 1:01d}_{person + 1:03d}_{1 if number < 5 else 2:01d}_{number + 1:02d}.png"
                        cv2.imwrite(str(folder / f"images_{kind}" / name), image[:, :, ::-1])
                        names.append(name)
                    known.append([pair + 1, person + 1, names])
            splits = []
            for reference in mat["testsets"][0]:
                tested = mat[reference][:].T.tolist()
                split, numbers = {"train": [], "query": []}, {"train": 0, "query": 0}
                for pair, person, names in known:
                    part = "query" if [pair, person] in tested else "train"
                    split[part] += [[name, numbers[part], int(name.split("_")[2]) - 1] for name in names]
                    numbers[part] += 1
                splits.append({**split, "gallery": split["query"]})
            (folder / f"splits_classic_{kind}.json").write_text(json.dumps(splits))
