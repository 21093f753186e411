"""What a report is made of, as plain values; whoever knows runs, models and data sets collects them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
from torch import Tensor

from ..evaluation import RetrievalResult, Threshold

ReadImage = Callable[[str], "np.ndarray | None"]  # image file -> (H, W, 3) uint8 RGB, None if it cannot be read


@dataclass(frozen=True, eq=False)
class TestSet:
    """Query and gallery of one data set, embedded and evaluated.

    Args:
        name, protocol: what was evaluated, and how.
        query, gallery: (Q, D) and (G, D) embeddings.
        q_pids, g_pids, q_camids, g_camids: (Q,) and (G,) identities, and rows in `camera_names`.
        q_names, g_names: Q and G image files.
        camera_names: name of each camid.
        result: the ranking that the run is configured for, judged.
        ranking: its name; "none" = by distance alone.
        threshold: the model's own, for these embeddings, or None.
        read: from a name to its image; None for an image that cannot be read.
    """

    name: str
    protocol: str
    query: Tensor
    gallery: Tensor
    q_pids: np.ndarray
    g_pids: np.ndarray
    q_camids: np.ndarray
    g_camids: np.ndarray
    q_names: Sequence[str]
    g_names: Sequence[str]
    camera_names: Sequence[str]
    result: RetrievalResult
    ranking: str = "none"
    threshold: Threshold | None = None
    read: ReadImage | None = None

    __test__ = False  # no test case, whatever pytest makes of the name

    @property
    def arrays(self) -> tuple[Tensor, Tensor, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The arrays that every function of `evaluation` takes, in its order."""
        return self.query, self.gallery, self.q_pids, self.g_pids, self.q_camids, self.g_camids

    def same_images(self, other: TestSet) -> bool:
        """Tell whether `other` is about the same queries and the same gallery, in the same order."""
        return (
            self.protocol == other.protocol
            and all(np.array_equal(a, b) for a, b in zip(self.arrays[2:], other.arrays[2:], strict=True))
            and _file_names(self) == _file_names(other)
        )


def _file_names(test: TestSet) -> list[str]:
    """Return the names without their folders: the data set may have moved between two runs."""
    return [PurePath(name).name for name in (*test.q_names, *test.g_names)]


@dataclass(frozen=True, eq=False)
class Person:
    """One image and where the model looks in it.

    Args:
        image: (H, W, 3) uint8 RGB as the model sees it.
        title: whose it is, e.g. "pid 7, c2".
        maps: (h, w) weight of each patch, by what was measured.
        parts: (h, w) weight of each patch for one part of the jigsaw each, NaN where a patch is not in the part.
    """

    image: np.ndarray
    title: str
    maps: Mapping[str, np.ndarray]
    parts: Sequence[np.ndarray] = ()


@dataclass(frozen=True, eq=False)
class SideEffect:
    """What the side-information embedding does.

    Args:
        cameras: names of the C rows of its table.
        rows: (C, C) cosine between the learned rows, their mean taken out.
        before, after: (C, C) mean similarity of images of different people from camera to camera, with the row of an unknown
            camera and with the own camera's row.
        summary: both mean similarities, by the kind of pair.
        num_images: how many images were embedded twice.
    """

    cameras: Sequence[str]
    rows: np.ndarray
    before: np.ndarray | None = None
    after: np.ndarray | None = None
    summary: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    num_images: int = 0


@dataclass(frozen=True, eq=False)
class Looks:
    """What can be seen of the model itself.

    Args:
        people: images with the model's attention.
        positions: (h, w, h, w) cosine between the position embeddings of two patches, or None.
        side: what the side information does, or None.
    """

    people: Sequence[Person] = ()
    positions: np.ndarray | None = None
    side: SideEffect | None = None


@dataclass(frozen=True)
class Change:
    """An option of the run: its value, the default, and what it means."""

    key: str
    value: Any
    default: Any
    help: str = ""

    @property
    def is_changed(self) -> bool:
        """Whether the run differs from the default."""
        return bool(self.value != self.default)


@dataclass(frozen=True, eq=False)
class RunContents:
    """All that a report shows of one run; what is None or empty is left out with the reason in `missing`.

    Args:
        name: of the run.
        epochs: one row of numbers per epoch, as in metrics.jsonl.
        options: every option of the run.
        environment: versions, device and the like, by name.
        test: the evaluation.
        looks: pictures of the model.
        missing: part -> one sentence that says why it is not there.
        sentences: what the reader should know first.
    """

    name: str
    epochs: Sequence[Mapping[str, float]] = ()
    options: Sequence[Change] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    test: TestSet | None = None
    looks: Looks | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    sentences: Sequence[str] = ()
