"""Small trees in the layout of published data sets, with empty files or small pictures."""

from functools import partial

import numpy as np
from PIL import Image


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def market(folder, train=("0002_c1s1_000451_03.jpg",), query=("0001_c1s1_1.jpg",), test=("0001_c2s1_1.jpg",)):
    for subset, names in zip(("bounding_box_train", "query", "bounding_box_test"), (train, query, test), strict=True):
        touch(folder / subset, *names)
    return folder


def pids(records):
    return [record.pid for record in records]


def draw(folder, names, size=(32, 64)):
    """Write small pictures that differ, for training."""
    rng = np.random.default_rng(len(list(folder.parent.rglob("*"))))
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(path)


def numbered(people, cameras=2, images=2, camera="c{}", ending="jpg"):
    """Return names like Market-1501's: each person is seen `images` times by each camera."""
    return [
        f"{pid:04d}_{camera.format(number)}_{place:06d}.{ending}"
        for pid in people
        for number in range(1, cameras + 1)
        for place in range(images)
    ]


def market_tree(folder, subsets=("bounding_box_train", "query", "bounding_box_test"), **names):
    train, test = numbered(range(1, 9), **names), numbered(range(21, 27), **names)
    draw(folder / subsets[0], train)
    draw(folder / subsets[1], test[::4])
    draw(folder / subsets[2], [name for place, name in enumerate(test) if place % 4])
    return train, test


def msmt17_tree(folder):
    lists = {"train": range(8), "val": range(8, 9), "test": range(6)}
    for name, people in lists.items():
        names = [f"{pid:04d}/{pid:04d}_{place:03d}_{1 + place % 2:02d}_a.jpg" for pid in people for place in range(4)]
        draw(folder / ("test" if name == "test" else "train"), names)
        lines = [f"{path} {int(path[:4])}\n" for path in names]
        parts = {"query": lines[::4], "gallery": [line for place, line in enumerate(lines) if place % 4]}
        for part, found in (parts if name == "test" else {name: lines}).items():
            (folder / f"list_{part}.txt").write_text("".join(found))


def veri_tree(folder):
    names = market_tree(folder, ("image_train", "image_query", "image_test"), camera="c{:03d}")
    for part, found in zip(("train", "test"), names, strict=True):
        known = enumerate(found[:-1])  # the last has no view
        lines = [f"VeRi/image_{part}/{name} {'-1 ' * 40}{place % 8}\n" for place, name in known]
        (folder / f"keypoint_{part}.txt").write_text("".join(lines))


def vehicleid_tree(folder):
    (folder / "train_test_split").mkdir(parents=True)
    draw(folder / "image", [f"{number:07d}.jpg" for number in range(1, 57)])
    lines = [f"{number:07d} {(number - 1) // 4}\n" for number in range(1, 57)]
    (folder / "train_test_split" / "train_list.txt").write_text("".join(lines[:32]))
    for size in (800, 1600, 2400):
        (folder / "train_test_split" / f"test_list_{size}.txt").write_text("".join(lines[32:]))


TREES = {  # data set: folder, and what draws it
    "market1501": ("Market-1501-v15.09.15", market_tree),
    "dukemtmc": ("DukeMTMC-reID", market_tree),
    "msmt17": ("MSMT17", msmt17_tree),
    "occ_duke": ("Occluded_Duke", market_tree),
    "cuhk03-np-labeled": ("cuhk03-np/labeled", partial(market_tree, ending="png")),
    "cuhk03-np-detected": ("cuhk03-np/detected", partial(market_tree, ending="png")),
    "veri": ("VeRi", veri_tree),
    "veri-views": ("VeRi", veri_tree),
    "vehicleid": ("VehicleID_V1.0", vehicleid_tree),
    "vehicleid-1600": ("VehicleID_V1.0", vehicleid_tree),
    "vehicleid-2400": ("VehicleID_V1.0", vehicleid_tree),
}


def draw_tree(root, name):
    """Draw the data set `name` in `root`."""
    folder, draw_it = TREES[name]
    draw_it(root / folder)
