"""A name and a root folder to records; records to batches on the device."""

from .build_data import (
    DATASETS,
    build_data,
    build_eval_loader,
    build_preprocess,
    build_test_sets,
    build_train_loader,
    names_of_test_sets,
)
from .loading.batch import Batch
from .loading.decode import CorruptImageError, read_image
from .loading.loaders import EvalLoader, TrainLoader
from .loading.preprocess import Preprocess
from .records import Record, ReidData, label_map, name_rows

__all__ = [
    "DATASETS",
    "Batch",
    "CorruptImageError",
    "EvalLoader",
    "Preprocess",
    "Record",
    "ReidData",
    "TrainLoader",
    "build_data",
    "build_eval_loader",
    "build_preprocess",
    "build_test_sets",
    "build_train_loader",
    "label_map",
    "name_rows",
    "names_of_test_sets",
    "read_image",
]
