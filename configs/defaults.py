"""Every option of vitreid, once: default, meaning, unit, accepted values, source.

The defaults are TransReID's published recipe (He et al., ICCV 2021, section 4.2, and its released YAML files) for
the plain ViT-Base baseline. A recipe in `configs/*/*.yml` states only its differences.
"""

from __future__ import annotations

from .data_defaults import DATA_OPTIONS
from .model_defaults import MODEL_OPTIONS
from .options import Option
from .pretraining.pretraining_defaults import PRETRAINING_OPTIONS
from .run_defaults import RUN_OPTIONS
from .unsupervised_defaults import UNSUPERVISED_OPTIONS

OPTIONS: dict[str, Option] = {
    **MODEL_OPTIONS,
    **DATA_OPTIONS,
    **UNSUPERVISED_OPTIONS,
    **PRETRAINING_OPTIONS,
    **RUN_OPTIONS,
}
