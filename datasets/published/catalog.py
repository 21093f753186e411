"""All published data sets that have a reader, by name in `DATASETS`."""

from __future__ import annotations

from dataclasses import replace

from .aerial_ground import AG_REID, CARGO
from .changed_clothes import DEEPCHANGE, LTCC, PRCC, VC_CLOTHES
from .classic.cuhk03 import CUHK03_CLASSIC
from .classic.luperson import LUPERSON, LUPERSON_NL
from .classic.occluded import OCCLUDED_REID, P_DUKEMTMC, PARTIAL_REID
from .classic.training_images import CUHK_SYSU, LPW, MARKET1501_500K, MSMT17_MERGED
from .classic.two_cameras import GRID, PRID, VIPER
from .market1501 import CUHK03_DETECTED, CUHK03_LABELED, DUKEMTMC, MARKET1501, OCCLUDED_DUKE
from .msmt17 import MSMT17
from .published_dataset import PublishedDataset
from .vehicleid import TEST_SIZES, vehicleid_of
from .veri776 import VERI
from .video.mars import MARS
from .video.tracklet_folders import DUKEMTMC_VIDEO, ILIDS_VID, PRID_VIDEO
from .visible_infrared import SYSU_MM01, regdb_of

VERI_VIEWS = replace(VERI, name="veri-views", counts=None)  # 64 images fewer; in which part is not published
PUBLISHED: dict[str, PublishedDataset] = {
    published.name: published
    for published in (
        *(MARKET1501, DUKEMTMC, MSMT17, OCCLUDED_DUKE, CUHK03_LABELED, CUHK03_DETECTED, VERI, VERI_VIEWS),
        *map(vehicleid_of, TEST_SIZES),
        *(PRCC, LTCC, VC_CLOTHES, DEEPCHANGE, SYSU_MM01, *map(regdb_of, range(1, 11)), AG_REID, CARGO),
        *(MARKET1501_500K, *CUHK03_CLASSIC.values(), VIPER, PRID, GRID, OCCLUDED_REID, PARTIAL_REID, P_DUKEMTMC),
        *(CUHK_SYSU, LPW, MSMT17_MERGED, LUPERSON, LUPERSON_NL, MARS, DUKEMTMC_VIDEO, ILIDS_VID, PRID_VIDEO),
    )
}
