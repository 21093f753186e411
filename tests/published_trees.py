"""Small trees in the layout of published data sets, with empty files or small pictures."""

import json
from functools import partial

import numpy as np
from drawn_pictures import draw
from scipy.io import savemat
from video_trees import VIDEO_TREES


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


def prcc_tree(folder):
    for pid in range(1, 9):
        draw(
            folder / "rgb" / "train" / f"{pid:03d}",
            [f"{camera}_cropped_rgb{n:03d}.jpg" for camera in "ABC" for n in (1, 2)],
        )
    for camera in "ABC":
        for pid in range(21, 27):
            draw(folder / "rgb" / "test" / camera / f"{pid:03d}", [f"cropped_rgb{n:03d}.jpg" for n in (1, 2)])


def ltcc_tree(folder):
    """Each person has two sets of clothes, and is seen in each by two cameras."""
    parts = {"train": (range(1, 9), (1, 2)), "query": (range(21, 27), (1,)), "test": (range(21, 27), (2, 3))}
    for part, (people, numbers) in parts.items():
        cells = [
            (pid, clothes, camera, n) for pid in people for clothes in (1, 2) for camera in (1, 12) for n in numbers
        ]
        draw(folder / part, [f"{pid:03d}_{clothes}_c{camera}_{n:06d}.png" for pid, clothes, camera, n in cells])


def vc_clothes_tree(folder):
    """Clothes 1 before the cameras 1 to 3, clothes 2 before camera 4."""
    parts = {"train": (range(1, 9), (1, 2)), "query": (range(21, 27), (1,)), "gallery": (range(21, 27), (2, 3))}
    for part, (people, numbers) in parts.items():
        cells = [(pid, camera, 1 + camera // 4, n) for pid in people for camera in range(1, 5) for n in numbers]
        draw(folder / part, [f"{pid:04d}-{camera:02d}-{clothes:02d}-{n:02d}.jpg" for pid, camera, clothes, n in cells])


def deepchange_tree(folder):
    parts = {"train-set": range(1, 9), "test-set-query": range(21, 27), "test-set-gallery": range(21, 27)}
    for part, people in parts.items():
        first = 2 if part.endswith("gallery") else 1  # the gallery shares tracklet 2 with the query
        names = [
            (f"P{pid}_C{camera}_S{camera}_{part[:8]}{n}.jpg", n)
            for pid in people
            for camera in (1, 17)
            for n in (first, first + 1)
        ]
        draw(folder / part, [name for name, _ in names])
        (folder / f"{part}-bbox.txt").write_text(
            "".join(f"{name},{tracklet}\r\n" for name, tracklet in names), newline=""
        )


def sysu_tree(folder):
    (folder / "exp").mkdir(parents=True)
    for part, people in {"train": range(1, 7), "val": range(7, 9), "test": range(21, 27)}.items():
        (folder / "exp" / f"{part}_id.txt").write_text(",".join(map(str, people)) + "\n")
        for camera in range(1, 7):
            for pid in people:
                draw(folder / f"cam{camera}" / f"{pid:04d}", [f"{n:04d}.jpg" for n in (1, 2, 3)])


def regdb_tree(folder):
    (folder / "idx").mkdir(parents=True)
    for modality in ("visible", "thermal"):
        for pid in range(14):
            draw(folder / modality.title() / str(pid), [f"{modality}_{n}.bmp" for n in (1, 2)])
        for trial in range(1, 11):
            for part, people in {"train": range(8), "test": range(8, 14)}.items():
                lines = [
                    f"{modality.title()}/{pid}/{modality}_{n}.bmp {pid - people[0]}\n" for pid in people for n in (1, 2)
                ]
                (folder / "idx" / f"{part}_{modality}_{trial}.txt").write_text("".join(lines))


def ag_reid_tree(folder):
    def names(people, camera, numbers):
        return [f"P{pid:04d}T04041A0C{camera}F{n}.jpg" for pid in people for n in numbers]

    draw(folder / "bounding_box_train", [name for camera in (0, 3) for name in names(range(1, 9), camera, (1, 2))])
    for camera in (0, 3):
        draw(folder / f"query_all_c{camera}", names(range(21, 27), camera, (1,)))
        draw(folder / f"bounding_box_test_all_c{camera}", names(range(21, 27), camera, (2, 3)))


def cargo_tree(folder):
    parts = {"train": (range(1, 9), (1, 2)), "query": (range(21, 27), (3,)), "gallery": (range(21, 27), (4, 5))}
    for part, (people, numbers) in parts.items():
        for camera in (1, 5, 6, 13):
            names = [f"Cam{camera}_day_{pid}_{n}.jpg" for pid in people for n in numbers]
            draw(folder / part / f"Cam{camera}", names)


def market_500k_tree(folder):
    market_tree(folder)
    draw(folder / "distractors_500k", ["d1.jpg", "d2.jpg"])


def viper_tree(folder):
    for camera in ("cam_a", "cam_b"):
        draw(folder / camera, [f"{pid:03d}_45.bmp" for pid in range(16)])


def prid_tree(folder):
    draw(folder / "single_shot" / "cam_a", [f"person_{pid:04d}.png" for pid in (*range(1, 17), 201)])
    draw(folder / "single_shot" / "cam_b", [f"person_{pid:04d}.png" for pid in (*range(1, 17), 201, 202)])


def grid_tree(folder):
    draw(folder / "probe", [f"{pid:04d}_1_{pid}.jpeg" for pid in range(1, 17)])
    draw(
        folder / "gallery",
        [f"{pid:04d}_{5 + pid % 2}_{pid}.jpeg" for pid in range(1, 17)] + ["0000_8_1.jpeg", "0000_8_2.jpeg"],
    )
    splits = np.empty((1, 10), object)
    for split in range(10):
        people = np.roll(np.arange(1, 17), split)[None, :8]
        splits[0, split] = np.array([[(0, 0, people)]], [("a", "O"), ("b", "O"), ("people", "O")])
    savemat(folder / "features_and_partitions.mat", {"trainIdxAll": splits})


def cuhk03_tree(folder, kinds=("labeled", "detected")):
    """The images, the 20 splits of the first protocol, and the file of the new one."""
    names = [
        f"{1 + pid // 10}_{pid:03d}_{view}_{number:02d}.png"
        for pid in range(14)
        for view in (1, 2)
        for number in (1, 2)
    ]
    labels = [int(name.split("_")[1]) for name in names]
    cameras = [int(name.split("_")[2]) for name in names]
    for kind in kinds:
        draw(folder / f"images_{kind}", names)
        train, test = (
            [
                [f"/home/someone/{name}", pid - first, camera - 1]
                for name, pid, camera in zip(names, labels, cameras, strict=True)
                if is_in(pid)
            ]
            for first, is_in in ((0, lambda pid: pid < 8), (8, lambda pid: pid >= 8))
        )
        split = {"train": train, "query": test, "gallery": test}
        (folder / f"splits_classic_{kind}.json").write_text(json.dumps([split] * 20))
        places = {
            "train": [place for place, pid in enumerate(labels) if pid < 8],
            "query": [place for place, pid in enumerate(labels) if pid >= 8 and place % 2 == 0],
            "gallery": [place for place, pid in enumerate(labels) if pid >= 8 and place % 2],
        }
        columns = {
            "labels": labels,
            "camId": cameras,
            **{f"{part}_idx": [row + 1 for row in rows] for part, rows in places.items()},
        }
        file = {key: np.array(values)[:, None] for key, values in columns.items()}
        savemat(
            folder / f"cuhk03_new_protocol_config_{kind}.mat", {"filelist": np.array(names, object)[:, None], **file}
        )


def occluded_tree(folder, query="occluded_body_images", nested=True, ending="tif"):
    for part in (query, "whole_body_images"):
        names = [f"{pid:03d}/{pid:03d}_{n:02d}.{ending}" for pid in range(1, 7) for n in (1, 2)]
        draw(folder / part, names if nested else [name.partition("/")[2] for name in names])


def p_duke_tree(folder):
    def names(people, numbers):
        return [f"{pid:04d}/{pid:04d}_c{camera}_f{n}.jpg" for pid in people for camera in (1, 8) for n in numbers]

    for part in ("occluded_body_images", "whole_body_images"):
        draw(folder / "train" / part, names(range(1, 9), (1, 2)))
        draw(folder / "test" / part, names(range(21, 27), (3,)))


def cuhk_sysu_tree(folder):
    draw(folder / "cropped_images", [f"p{pid}_s{n}_1.jpg" for pid in range(1, 9) for n in range(4)])


def lpw_tree(folder):
    for scene, views in {1: 3, 2: 4, 3: 4}.items():
        for view in range(1, views + 1):
            names = [f"{pid}/{n:05d}.jpg" for pid in range(6) for n in (1, 2)]
            draw(folder / f"scen{scene}" / f"view{view}", names)


def luperson_tree(folder):
    """The folders that the scripts of its authors make, and names as in its LMDB."""
    for place in ("Japan/Tokyo/v1", "Japan/Tokyo/v2", "Peru/Lima/v3"):
        draw(folder / place, [f"{frame:08d}_{person:04d}.jpg" for frame in (1, 21, 41) for person in range(2)])
    draw(folder / "more", [f"30_00_{video:04d}_{number:08d}.jpg" for video in (1, 2) for number in range(6)])


def luperson_nl_tree(folder):
    for video, place in enumerate(("Japan/Tokyo/v1", "Japan/Tokyo/v2", "Peru/Lima/v3")):
        names = [
            f"{pid:06d}_{frame:07d}_{pid % 10:02d}.jpg" for pid in range(3 * video, 3 * video + 3) for frame in (1, 21)
        ]
        draw(folder / place, names)
    draw(folder / "more", [f"00004_{pid:06d}_{frame:07d}_00.jpg" for pid in (10, 11) for frame in (1, 21)])


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
    "prcc": ("prcc", prcc_tree),
    "ltcc": ("LTCC_ReID", ltcc_tree),
    "vc-clothes": ("VC-Clothes", vc_clothes_tree),
    "deepchange": ("DeepChangeDataset", deepchange_tree),
    "sysu-mm01": ("SYSU-MM01", sysu_tree),
    "regdb": ("RegDB", regdb_tree),
    **{f"regdb-{trial}": ("RegDB", regdb_tree) for trial in range(2, 11)},
    "ag-reid": ("AG-ReID", ag_reid_tree),
    "cargo": ("CARGO", cargo_tree),
    "market1501-500k": ("Market-1501-v15.09.15", market_500k_tree),
    "cuhk03-labeled": ("cuhk03", partial(cuhk03_tree, kinds=("labeled",))),
    "cuhk03-detected": ("cuhk03", partial(cuhk03_tree, kinds=("detected",))),
    "viper": ("viper/VIPeR", viper_tree),
    "prid": ("prid2011/prid_2011", prid_tree),
    "grid": ("grid/underground_reid", grid_tree),
    "occluded-reid": ("Occluded_REID", occluded_tree),
    "partial-reid": ("Partial_REID", partial(occluded_tree, query="partial_body_images", nested=False, ending="jpg")),
    "p-dukemtmc": ("P-DukeMTMC-reid", p_duke_tree),
    "cuhk-sysu": ("cuhksysu", cuhk_sysu_tree),
    "lpw": ("pep_256x128/data_slim", lpw_tree),
    "msmt17-merged": ("MSMT17", msmt17_tree),
    "luperson": ("luperson", luperson_tree),
    "luperson-nl": ("lup-nl", luperson_nl_tree),
    **VIDEO_TREES,
}


def draw_tree(root, name):
    """Draw the data set `name` in `root`."""
    folder, draw_it = TREES[name]
    draw_it(root / folder)
