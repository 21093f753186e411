"""Data sets: name and root folder -> records; records -> batches on the device."""

from .augment.multi_crop import MultiCrop
from .data_builders import (
    build_data,
    build_eval_loader,
    build_frame_counts,
    build_plain_loader,
    build_preprocess,
    build_test_set_names,
    build_test_sets,
    build_train_loader,
)
from .loading.batch import Batch
from .loading.decode import CorruptImageError, read_image
from .loading.loaders import EvalLoader, TrainLoader
from .loading.preprocess import Preprocess
from .readers.dataset_registry import DATASETS, ReadOptions, read_dataset
from .records import Record, ReidData, label_map, name_rows
from .view_builders import build_multi_crop, build_raw_loader

names_of_test_sets = build_test_set_names  # the former name
SharingError = RuntimeError  # the former class; `processor.RankFailed`, a RuntimeError, reports these failures now

__all__ = [
    "DATASETS",
    "Batch",
    "CorruptImageError",
    "EvalLoader",
    "MultiCrop",
    "Preprocess",
    "ReadOptions",
    "Record",
    "ReidData",
    "SharingError",
    "TrainLoader",
    "build_data",
    "build_eval_loader",
    "build_frame_counts",
    "build_multi_crop",
    "build_plain_loader",
    "build_preprocess",
    "build_raw_loader",
    "build_test_set_names",
    "build_test_sets",
    "build_train_loader",
    "label_map",
    "name_rows",
    "names_of_test_sets",
    "read_dataset",
    "read_image",
]
