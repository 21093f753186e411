"""Under which terms the data sets may be used, for the checkpoints that are trained on them. No legal advice: ask their authors."""

from __future__ import annotations

TERMS: dict[str, str] = {  # a key of `DATASETS` -> its terms
    "market1501": "research only; no licence is stated with the data",
    "dukemtmc": "withdrawn by its authors in 2019: people were recorded without consent; do not distribute",
    "msmt17": "research only, under a signed agreement with its authors",
    "synthetic": "drawn by vitreid, no people in it; MIT",
}
UNSTATED = "not stated: own data, ask the people who recorded it"


def terms_of(name: str) -> str:
    """Return the terms of a data set.

    >>> terms_of("folder")
    'not stated: own data, ask the people who recorded it'
    """
    return TERMS.get(name, UNSTATED)
