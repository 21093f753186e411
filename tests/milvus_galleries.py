"""What the tests of Milvus Lite and of a Milvus server share: a folder, and conditions on its records."""

import numpy as np

from vitreid.gallery import Gallery, GalleryInfo

MODEL = "sha256:a"
CONDITIONS = [
    None,
    ["camera=c1,c2"],
    ["camera!=c1"],
    ["camera="],
    ["camera!="],
    ["camera!=c1,"],
    ["time>=5", "time<20"],
    ['pid="it\'s ""7""",1'],
    ["shoes>2"],
    ["shoes!=3"],
    ["shoes="],
    ["shoes!="],
    ["id!=0,1"],
    ["id<4"],
    ["camera={},c1"],
    ["time<inf"],
    {"camera": []},
]


def filled_folder(path):
    """A gallery folder of 40 rows, two of them removed, with unknown values in each column."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    folder = Gallery.create(path, GalleryInfo(MODEL, 8))
    records = [
        {
            "path": f"{i}.png",
            "pid": 'it\'s "7"' if i % 3 == 0 else str(i % 3),
            "camera": [None, "c1", "c2", "c3"][i % 4],
            "time": None if i % 5 == 0 else float(i),
            "shoes": None if i % 7 == 0 else i % 6,
        }
        for i in range(40)
    ]
    folder.add(vectors, records, MODEL)
    folder.remove([4, 39])
    return folder
