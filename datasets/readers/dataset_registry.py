"""Data sets by name: the registry of readers, and one function that reads a data set without a config.

To add a data set: its reader in this folder, or in `published/`, and its line in `DATASETS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...common.errors import UserError
from ..published.aerial_ground import CARGO, load_ag_reid
from ..published.changed_clothes import LTCC, VC_CLOTHES, load_deepchange, load_prcc
from ..published.classic.cuhk03 import load_cuhk03, load_cuhk03_np
from ..published.classic.luperson import load_luperson, load_luperson_nl
from ..published.classic.occluded import OCCLUDED_REID, P_DUKEMTMC, PARTIAL_REID, load_occluded
from ..published.classic.training_images import load_cuhk_sysu, load_lpw, load_market1501_500k, load_msmt17_merged
from ..published.classic.two_cameras import load_grid, load_prid, load_viper
from ..published.image_names import load_named
from ..published.market1501 import (
    CUHK03_DETECTED,
    CUHK03_LABELED,
    OCCLUDED_DUKE,
    load_dukemtmc,
    load_market1501,
    load_published,
)
from ..published.msmt17 import load_msmt17
from ..published.vehicleid import load_vehicleid
from ..published.veri776 import load_veri
from ..published.video.mars import load_mars
from ..published.video.tracklet_folders import load_dukemtmc_video, load_ilids_vid, load_prid_video
from ..published.visible_infrared import load_regdb, load_sysu_mm01
from ..records import ReidData
from ..synthetic.dataset import load_synthetic
from .crops import load_crops
from .folder import load_folder
from .manifest import load_manifest


@dataclass(frozen=True)
class ReadOptions:
    """Settings of single readers; the others ignore them.

    Args:
        manifest: CSV file of the data set `manifest`.
        test_share: share of the identities of `folder` that become query and gallery.
        split_seed: seed of that split, and of those of `viper` and `prid`; number of the split of `grid`, `cuhk03-…`,
            `ilids-vid` and `prid-video`.
        draws: whether `synthetic` may draw its people. Not if a file, such as a checkpoint, chose the data set.
        camera_pattern: regular expression that finds the camera in the paths of `folder` and `crops`, and of a `manifest` without
            camid.
        unlabelled: training images of a `manifest` may lack a pid.
    """

    manifest: str = ""
    test_share: float = 0.5
    split_seed: int = 0
    draws: bool = True
    camera_pattern: str = ""
    unlabelled: bool = False


def _reader_of_trial(trial: int) -> Callable[[str | Path, ReadOptions], ReidData]:
    return lambda root, _: load_regdb(root, trial)


DATASETS: dict[str, Callable[[str | Path, ReadOptions], ReidData]] = {  # name -> reader of (root, options)
    "market1501": lambda root, _: load_market1501(root),
    "dukemtmc": lambda root, _: load_dukemtmc(root),
    "msmt17": lambda root, _: load_msmt17(root),
    "occ_duke": lambda root, _: load_published(root, OCCLUDED_DUKE),
    "cuhk03-np-labeled": lambda root, _: load_cuhk03_np(root, CUHK03_LABELED, "labeled"),
    "cuhk03-np-detected": lambda root, _: load_cuhk03_np(root, CUHK03_DETECTED, "detected"),
    "veri": lambda root, _: load_veri(root),
    "veri-views": lambda root, _: load_veri(root, only_with_view=True),
    "vehicleid": lambda root, _: load_vehicleid(root),
    "vehicleid-1600": lambda root, _: load_vehicleid(root, 1600),
    "vehicleid-2400": lambda root, _: load_vehicleid(root, 2400),
    "prcc": lambda root, _: load_prcc(root),
    "ltcc": lambda root, _: load_named(root, LTCC),
    "vc-clothes": lambda root, _: load_named(root, VC_CLOTHES),
    "deepchange": lambda root, _: load_deepchange(root),
    "sysu-mm01": lambda root, _: load_sysu_mm01(root),
    "regdb": lambda root, _: load_regdb(root),
    **{f"regdb-{trial}": _reader_of_trial(trial) for trial in range(2, 11)},
    "ag-reid": lambda root, _: load_ag_reid(root),
    "cargo": lambda root, _: load_named(root, CARGO),
    "market1501-500k": lambda root, _: load_market1501_500k(root),
    "cuhk03-labeled": lambda root, options: load_cuhk03(root, "labeled", options.split_seed),
    "cuhk03-detected": lambda root, options: load_cuhk03(root, "detected", options.split_seed),
    "viper": lambda root, options: load_viper(root, options.split_seed),
    "prid": lambda root, options: load_prid(root, options.split_seed),
    "grid": lambda root, options: load_grid(root, options.split_seed),
    "occluded-reid": lambda root, _: load_occluded(root, OCCLUDED_REID),
    "partial-reid": lambda root, _: load_occluded(root, PARTIAL_REID),
    "p-dukemtmc": lambda root, _: load_named(root, P_DUKEMTMC),
    "cuhk-sysu": lambda root, _: load_cuhk_sysu(root),
    "lpw": lambda root, _: load_lpw(root),
    "msmt17-merged": lambda root, _: load_msmt17_merged(root),
    "luperson": lambda root, _: load_luperson(root),
    "luperson-nl": lambda root, _: load_luperson_nl(root),
    "mars": lambda root, _: load_mars(root),
    "dukemtmc-video": lambda root, _: load_dukemtmc_video(root),
    "ilids-vid": lambda root, options: load_ilids_vid(root, options.split_seed),
    "prid-video": lambda root, options: load_prid_video(root, options.split_seed),
    "synthetic": lambda root, options: load_synthetic(root, draws=options.draws),
    "manifest": lambda _, options: load_manifest(options.manifest, options.camera_pattern, options.unlabelled),
    "folder": lambda root, options: load_folder(root, options.test_share, options.split_seed, options.camera_pattern),
    "crops": lambda root, options: load_crops(root, options.camera_pattern),
}
ALIASES = {
    "dukemtmcreid": "dukemtmc",
    "occluded_duke": "occ_duke",
    "veri776": "veri",
    "sysu": "sysu-mm01",
    "ilidsvid": "ilids-vid",
    "dukemtmcvidreid": "dukemtmc-video",
}


def read_dataset(name: str, root: str | Path, options: ReadOptions | None = None) -> ReidData:
    """Read the data set `name`.

    Args:
        root: folder that holds the data sets' folders, or is one of them.
        options: None = the defaults.
    Raises:
        ValueError: an unknown name, or wrong contents.
        FileNotFoundError: the data set is not in `root`.
    """
    return DATASETS[resolve_names([name], "data set")[0]](root, options or ReadOptions())


def resolve_names(names: Sequence[str], key: str) -> list[str]:
    """Return the keys of `DATASETS` that `names` mean; upper case and aliases are accepted.

    Raises:
        ValueError: an unknown name; names the config `key`.
    """
    known = [ALIASES.get(name.lower(), name.lower()) for name in names]
    for name, found in zip(names, known):
        if found not in DATASETS:
            raise UserError(f"{key}: unknown data set {name!r}; choose from {', '.join(sorted(DATASETS))}")
    return known
