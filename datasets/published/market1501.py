"""Reader of Market-1501's layout: Market-1501, DukeMTMC-reID, Occluded-Duke, CUHK03-NP, VeRi-776 and the synthetic people.

File names are `PID_cCAMERA…`, for example `0002_c1s1_000451_03.jpg`: sequence 1, frame 451. Images of pid -1 are junk and left out; those
of pid 0 are distractors and stay in the gallery [Zheng et al., ICCV 2015].
"""

from __future__ import annotations

import itertools
import logging
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..readers.image_files import list_images
from ..records import TIME, Moment, Record, ReidData
from .published_dataset import PublishedDataset, check_counts, find_folder, find_part, name_cameras

log = logging.getLogger(__name__)

SUBSETS = ("bounding_box_train", "query", "bounding_box_test")
_LAYOUT = "the folders bounding_box_train, query and bounding_box_test with images such as 0002_c1s1_000451_03.jpg"
_NAME = re.compile(r"(-?\d{1,15})_c(\d+)", re.IGNORECASE)
_FRAME = re.compile(
    r"_c\d+(?:s(\d+)_(\d{6})_\d\d|_f(\d{7}))\.", re.IGNORECASE
)  # as published: of other names nothing is known

MARKET1501 = PublishedDataset(
    "market1501",
    ("market1501", "Market-1501-v15.09.15", "Market-1501"),
    _LAYOUT,
    "https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html",
    (12936, 3368, 15913),
    (751, 750),
    6,
    frame_rate=25,
)
DUKEMTMC = PublishedDataset(
    "dukemtmc",
    ("dukemtmc", "DukeMTMC-reID", "dukemtmcreid", "dukemtmc-reid"),
    _LAYOUT.replace("0002_c1s1_000451_03", "0001_c2_f0046182"),
    "withdrawn by its authors in 2019; ask for a copy where you may use one",
    (16522, 2228, 17661),
    (702, 702),
    8,
    frame_rate=60,
)
OCCLUDED_DUKE = PublishedDataset(  # Miao et al., ICCV 2019
    "occ_duke",
    ("Occluded_Duke", "Occluded-DukeMTMC", "Occluded-DukeMTMC-reID"),
    _LAYOUT.replace("0002_c1s1_000451_03", "0001_c2_f0046182"),
    "github.com/lightas/Occluded-DukeMTMC-Dataset lists its images, which are of DukeMTMC-reID, withdrawn by its authors in 2019",
    (15618, 2210, 17661),
    (702, 519),
    8,
    frame_rate=60,
)
CUHK03_LABELED = PublishedDataset(  # Li et al., CVPR 2014; split of Zhong et al., CVPR 2017
    "cuhk03-np-labeled",
    ("cuhk03-np/labeled", "cuhk03-np/labelled", "cuhk03_np_labeled", "labeled"),
    _LAYOUT.replace("0002_c1s1_000451_03.jpg", "0001_c1_1.png"),
    "github.com/zhunzhong07/person-re-ranking",
    (7368, 1400, 5328),
    (767, 700),
    2,
)
CUHK03_DETECTED = replace(
    CUHK03_LABELED,
    name="cuhk03-np-detected",
    folders=("cuhk03-np/detected", "cuhk03_np_detected", "detected"),
    counts=(7365, 1400, 5332),
)


def load_market1501(root: str | Path) -> ReidData:
    """Read Market-1501 [Zheng et al., ICCV 2015] from `root` or a folder below it."""
    return load_published(root, MARKET1501)


def load_dukemtmc(root: str | Path) -> ReidData:
    """Read DukeMTMC-reID [Zheng et al., ICCV 2017] from `root` or a folder below it."""
    return load_published(root, DUKEMTMC)


def load_published(root: str | Path, published: PublishedDataset) -> ReidData:
    """Read a data set in Market-1501's layout, and warn if its size differs from the publication.

    The training folder may be missing; evaluation does not need it.

    Raises:
        FileNotFoundError: the folder is missing, or one of its parts holds no image.
    """
    folder = find_folder(root, published, published.subsets[1:])
    places = [find_part(folder, subset) for subset in published.subsets]
    read = [_read(place, published) if place else ([], []) for place in places]
    subsets, left_out = [records for records, _ in read], tuple(path for _, foreign in read for path in foreign)
    rows, names = name_cameras((record for subset in subsets for record in subset), published.name)
    moments = taken_at((record for subset in subsets for record in subset), published.frame_rate)
    train, query, gallery = (
        [replace(record, camid=rows[record.camid], moment=moments.get(record.path)) for record in subset]
        for subset in subsets
    )
    return check_counts(ReidData(published.name, train, query, gallery, names, left_out=left_out), published)


def _read(folder: Path, published: PublishedDataset) -> tuple[list[Record], list[str]]:
    """Return the records of a folder, with the numbers in the file names as camids, and the images with other names."""
    files = list_images(folder)
    parsed = [(path, _NAME.match(path.name)) for path in files]
    if foreign := [path for path, match in parsed if match is None]:
        log.warning(
            "%s: %d files left out that are not named PID_cCAMERA…, first %s", folder, len(foreign), foreign[0].name
        )
    records = [
        Record(str(path), int(match[1]), int(match[2])) for path, match in parsed if match and int(match[1]) >= 0
    ]
    if not records:
        raise FileNotFoundError(
            f"{folder}: no image of a person found among {len(files)} image files. Expected: {published.expected}"
        )
    return records, [str(path) for path in foreign]


def taken_at(records: Iterable[Record], frame_rate: float) -> dict[str, Moment]:
    """Return when each image was taken, by its path, in seconds from the start of its camera's first sequence; empty for rate 0.

    The sequences of a camera follow each other in their order. How long one lasted is not published: up to its last image here. So the
    clocks of two cameras differ by a constant within a sequence, and by about that in the next one.
    """
    frames = {}  # path -> camera, sequence, frame
    for record in records if frame_rate else ():
        if match := _FRAME.search(Path(record.path).name):
            frames[record.path] = record.camid, int(match[1] or 0), int(match[2] or match[3])
    last: dict[int, dict[int, int]] = defaultdict(dict)  # camera -> sequence -> its last frame
    for camera, sequence, frame in frames.values():
        last[camera][sequence] = max(frame, last[camera].get(sequence, 0))
    starts: dict[tuple[int, int], int] = {}  # camera, sequence -> its first frame
    for camera, lengths in last.items():
        order = sorted(lengths)
        ends = [0, *itertools.accumulate(lengths[sequence] for sequence in order)]
        starts |= {(camera, sequence): start for sequence, start in zip(order, ends)}
    seconds = {
        path: (starts[camera, sequence] + frame) / frame_rate for path, (camera, sequence, frame) in frames.items()
    }
    return {path: Moment(TIME, second, second) for path, second in seconds.items()}
