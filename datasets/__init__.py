"""A name and a root folder to records; records to batches on the device."""

from .batch import Batch, Preprocess
from .build import (
    DATASETS,
    build_data,
    build_eval_loader,
    build_preprocess,
    build_test_sets,
    build_train_loader,
    names_of_test_sets,
)
from .decode import CorruptImageError, read_image
from .loaders import EvalLoader, TrainLoader
from .records import Record, ReidData, label_map, name_rows
from .shared import SharingError

__all__ = [
    "DATASETS",
    "Batch",
    "CorruptImageError",
    "EvalLoader",
    "Preprocess",
    "Record",
    "ReidData",
    "SharingError",
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
