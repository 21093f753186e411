"""Under which terms the data sets may be used, for the checkpoints that are trained on them. No legal advice: ask their authors."""

from __future__ import annotations

TERMS: dict[str, str] = {  # a key of `DATASETS` -> its terms
    "market1501": "research only; no licence is stated with the data",
    "dukemtmc": "withdrawn by its authors in 2019: people were recorded without consent; do not distribute",
    "msmt17": "research only, under a signed agreement with its authors",
    "occ_duke": "images of DukeMTMC-reID, withdrawn by its authors in 2019: people were recorded without consent; do not distribute",
    **dict.fromkeys(("cuhk03-np-labeled", "cuhk03-np-detected"), "research only, given out by its authors on request"),
    **dict.fromkeys(("veri", "veri-views"), "research only, given out by its authors on request"),
    **dict.fromkeys(
        ("vehicleid", "vehicleid-1600", "vehicleid-2400"), "research only, given out by its authors on request"
    ),
    "prcc": "research only, given out by its authors on request",
    "ltcc": "research only, given out by its authors on request",
    "vc-clothes": "drawn with a game, GTA V; ask its authors",
    "deepchange": "research only, under a signed agreement with its authors; faces must be hidden in what is published",
    "sysu-mm01": "research only, under a signed agreement with its authors; people consented to research and papers",
    **dict.fromkeys(
        ("regdb", *(f"regdb-{trial}" for trial in range(2, 11))),
        "research only, under a signed agreement with its authors",
    ),
    "ag-reid": "no licence is stated with the data; ask its authors",
    "cargo": "drawn with a game engine; academic purposes only, by its authors' licence",
    "market1501-500k": "research only; no licence is stated with the data",
    "msmt17-merged": "research only, under a signed agreement with its authors",
    "p-dukemtmc": "images of DukeMTMC-reID, withdrawn by its authors in 2019: people were recorded without consent; do not distribute",
    **dict.fromkeys(
        ("luperson", "luperson-nl"),
        "people in videos of YouTube, whose own terms hold; no licence is stated with the data; ask its authors",
    ),
    "mars": "research only; ask its authors",
    "dukemtmc-video": "recorded with DukeMTMC, withdrawn by its authors in 2019: people were recorded without consent; do not distribute",
    "ilids-vid": "frames of i-LIDS of the United Kingdom's Home Office; research only, ask its authors",
    "prid-video": "research only; ask its authors",
    "occluded-reid": "non-commercial purposes only, as its authors say",
    **dict.fromkeys(
        ("cuhk03-labeled", "cuhk03-detected", "cuhk-sysu", "lpw", "partial-reid", "viper", "prid", "grid"),
        "research only; ask its authors",
    ),
    "synthetic": "drawn by vitreid, no people in it; MIT",
}
UNSTATED = "not stated: own data, ask the people who recorded it"


def terms_of(name: str) -> str:
    """Return the terms of a data set.

    >>> terms_of("folder")
    'not stated: own data, ask the people who recorded it'
    """
    return TERMS.get(name, UNSTATED)
