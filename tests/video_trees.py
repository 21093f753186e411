"""Small trees in the layout of data sets of video, with small pictures as frames."""

import json

import numpy as np
from drawn_pictures import draw
from scipy.io import savemat

FRAMES = 3  # of most tracklets


def mars_tree(folder):
    """Two tracklets of a person in each of two cameras; in the test also junk and a distractor.

    A person's last tracklet in a camera is a query, of person 26 in camera 1 only.
    """
    parts = {"train": range(1, 9), "test": (-1, 0, *range(21, 27))}
    for part, people in parts.items():
        names, rows = [], []
        for pid in people:
            for tracklet, camera in enumerate((1, 1, 2, 2) if pid > 0 else (1, 2), 1):
                count = FRAMES + tracklet % 2
                first, person = len(names) + 1, "00-1" if pid == -1 else f"{pid:04d}"
                names += [f"{person}C{camera}T{tracklet:04d}F{frame:03d}.jpg" for frame in range(1, count + 1)]
                rows.append((first, len(names), pid, camera))
        draw(folder / f"bbox_{part}", [f"{name[:4]}/{name}" for name in names if not name.startswith("00-1")])
        (folder / "info").mkdir(exist_ok=True)
        (folder / "info" / f"{part}_name.txt").write_text("".join(f"{name}\n" for name in names))
        savemat(folder / "info" / f"tracks_{part}_info.mat", {f"track_{part}_info": np.array(rows, np.int32)})
    query = [row for row, (_, _, pid, _) in enumerate(rows, 1) if pid > 0 and row % 2 == 0][:-1]
    savemat(folder / "info" / "query_IDX.mat", {"query_IDX": np.array([query], np.uint16)})


def dukemtmc_video_tree(folder):
    """Names with and without underscores; two cameras, of which the first of each test person is the query."""
    parts = {"train": (range(1, 9), (1, 2)), "query": (range(21, 27), (1,)), "gallery": (range(21, 27), (1, 2))}
    for part, (people, cameras) in parts.items():
        for pid in people:
            for camera in cameras:
                tracklet = f"{camera + 4 * (part == 'query'):04d}"
                old = pid % 2
                names = [
                    f"{pid:04d}C{camera}F{n:04d}X1.jpg" if old else f"{pid:04d}_C{camera}_F{n:04d}_X1.jpg"
                    for n in range(2, 5)
                ]
                draw(folder / part / f"{pid:04d}" / tracklet, names)


def ilids_vid_tree(folder):
    for camera in (1, 2):
        for pid in range(2, 34, 2):  # the splits number places, not people
            names = [f"cam{camera}_person{pid:03d}_{n:05d}.png" for n in range(9, 9 + FRAMES)]
            draw(folder / "i-LIDS-VID" / "sequences" / f"cam{camera}" / f"person{pid:03d}", names)
    splits = folder / "train-test people splits"
    splits.mkdir()
    rows = np.stack([np.roll(np.arange(1, 17), split) for split in range(10)]).astype(np.uint16)
    savemat(splits / "train_test_splits_ilidsvid.mat", {"ls_set": rows})


def prid_video_tree(folder):
    for camera in "ab":
        for pid in range(1, 19):
            draw(folder / "multi_shot" / f"cam_{camera}" / f"person_{pid:04d}", [f"{n:04d}.png" for n in (1, 2, 3)])
    people = [f"person_{pid:04d}" for pid in range(1, 17)]  # not 17 and 18
    splits = [{"train": people[split:][:8], "test": people[:split] + people[split:][8:]} for split in range(9)]
    (folder / "splits_prid2011.json").write_text(json.dumps(splits))


VIDEO_TREES = {  # data set: folder, and what draws it
    "mars": ("MARS", mars_tree),
    "dukemtmc-video": ("DukeMTMC-VideoReID", dukemtmc_video_tree),
    "ilids-vid": ("iLIDS-VID", ilids_vid_tree),
    "prid-video": ("prid2011/prid_2011", prid_video_tree),
}
