"""Findings about labels: counts, people in both splits, queries without a match, impossible batches."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...labels.protocol import find_protocol
from ..published.catalog import PUBLISHED
from ..published.published_dataset import PublishedDataset
from ..readers.image_files import EXTENSIONS
from ..records import UNLABELLED, Record, ReidData
from .finding import Finding, first_few


@dataclass(frozen=True)
class BatchPlan:
    """The batches of training: P identities x K images; K = 0: any images."""

    num_ids: int
    num_instances: int


def check_labels(data: ReidData, plan: BatchPlan, contents: Mapping[str, Hashable] | None = None) -> list[Finding]:
    """Return the findings about the labels of a data set, for training with these batches.

    Args:
        contents: path -> content of the file, equal for exact copies.
    """
    checks: tuple[Callable[[ReidData], Iterable[Finding]], ...] = (
        _published,
        _missing_splits,
        _unlabelled,
        _left_out,
        _overlap,
        _similar_names,
        _cameras,
        _single_camera_people,
    )
    found = [finding for check in checks for finding in check(data)]
    return [*found, *_queries(data, contents), *_batches(data, plan)]


def _published(data: ReidData) -> Iterable[Finding]:
    published = PUBLISHED.get(data.name)
    if published is None:
        return
    wrong = [
        f"{what}: {found}, published {right}"
        for what, found, right in _compare(data, published)
        if right is not None and found != right
    ]
    if wrong:
        yield Finding(
            "warning",
            "counts",
            len(wrong),
            f"this is not {data.name} as published",
            "results do not compare with others'; unpack the original archive again, and see that nothing was added",
            tuple(wrong),
        )
    else:
        yield Finding("note", "counts", 0, f"{published.items}, people and cameras are those published for {data.name}")


def _compare(data: ReidData, published: PublishedDataset) -> Iterable[tuple[str, int, int | None]]:
    """Yield (name, found, published), None where that is not known; only those of the test set if there are no training images."""
    found = (len(data.train), len(data.query), len(data.gallery))
    people = (len(_people(data.train)), len(_people(data.query)))
    first = 0 if data.train else 1
    names = [f"{split} {published.items}" for split in ("train", "query", "gallery")]
    yield from list(zip(names, found, published.counts or found))[first:]
    yield from list(zip(("train people", "query people"), people, published.people or people))[first:]
    if data.train and published.cameras:
        yield "cameras", len(data.camera_names), published.cameras


def _missing_splits(data: ReidData) -> Iterable[Finding]:
    if not data.train:
        yield Finding("warning", "no-train", 0, "no training images", "enough for vitreid test; training needs them")
    if not (data.query and data.gallery):
        unlabelled = bool(data.train) and not _people(data.train)
        advice = "give query and gallery images"
        advice += "" if unlabelled else ", or hold training people out with DATASETS.VAL_IDS"
        level = "warning" if unlabelled else "problem"  # such a training chooses its model without a test
        yield Finding(level, "no-test", 0, "no query or no gallery images: nothing can be evaluated", advice)


def _unlabelled(data: ReidData) -> Iterable[Finding]:
    unknown = len(data.train) - len(_labelled(data.train))
    if unknown:
        yield Finding(
            "note",
            "unlabelled",
            unknown,
            f"{_several(unknown, 'training image is', 'training images are')} of unknown people",
            "train with UNSUPERVISED.CLUSTERING, which makes clusters of them",
        )


def _left_out(data: ReidData) -> Iterable[Finding]:
    """Pictures in the data set's folders that its reader does not take."""
    if data.left_out:
        yield Finding(
            "warning",
            "left-out",
            len(data.left_out),
            f"{_several(len(data.left_out), 'picture is', 'pictures are')} left out: of a format that is not read, or with a name or "
            "place that this layout does not have",
            f"convert them to one of {', '.join(EXTENSIONS)}, or move them to a person; a manifest takes any names",
            first_few(data.left_out),
        )


def _overlap(data: ReidData) -> Iterable[Finding]:
    both = sorted(_people(data.train) & _people([*data.query, *data.gallery]))
    if both:
        yield Finding(
            "problem",
            "overlap",
            len(both),
            f"{_several(len(both), 'person', 'people')} in training and in the test set: figures would be far too good",
            "move all images of a person to one side",
            first_few([f"person {_name(data, pid)}" for pid in both]),
        )


def _similar_names(data: ReidData) -> Iterable[Finding]:
    """Similar names, such as '7' and '007', which may be one person."""
    by_key = defaultdict(list)
    for name in data.person_names.values():
        by_key[name.casefold().replace(" ", "").lstrip("0")].append(name)
    groups = [sorted(names) for names in by_key.values() if len(names) > 1]
    if groups:
        yield Finding(
            "warning",
            "similar-names",
            len(groups),
            "people's names that differ only in case, spaces or leading zeros",
            "if they are the same person, write the name the same everywhere",
            first_few([", ".join(map(repr, names)) for names in groups]),
        )


def _queries(data: ReidData, contents: Mapping[str, Hashable] | None) -> Iterable[Finding]:
    """Queries that no gallery image can match; evaluation leaves them out."""
    wanted = find_protocol(data.protocol).wanted
    where = f" {wanted}" * bool(wanted)
    alone = data.unmatched_queries(contents)
    if alone:
        everyone = len(alone) == len(data.query)
        yield Finding(
            "problem" if everyone else "warning",
            "unmatched-queries",
            len(alone),
            f"{len(alone)} of {len(data.query)} queries have no match in the gallery, which is another image of their person"
            + where
            + ": evaluation "
            + ("is impossible" if everyone else "leaves them out"),
            f"give each query's person another gallery image{where}" + "; check the camera labels" * bool(wanted),
            first_few([record.path for record in alone]),
        )


def _cameras(data: ReidData) -> Iterable[Finding]:
    if len(data.camera_names) == 1:
        yield Finding(
            "warning",
            "one-camera",
            1,
            f"one camera only ({data.camera_names[0]}): re-identification across cameras can neither be learnt nor measured",
            "if several cameras took the images, label them",
        )
    new = {data.camera_names[r.camid] for r in (*data.query, *data.gallery)} - set(data.train_cameras)
    if new and data.train:
        yield Finding(
            "note",
            "new-cameras",
            len(new),
            f"{_several(len(new), 'test camera', 'test cameras')} without training images; a model with MODEL.SIE_CAMERA "
            "uses its fallback row for them",
            "",
            first_few(sorted(new)),
        )


def _single_camera_people(data: ReidData) -> Iterable[Finding]:
    """Training people seen by one camera only, so that no pair across cameras exists."""
    known = _labelled(data.train)
    cameras, images = defaultdict(set), Counter(record.pid for record in known)
    for record in known:
        cameras[record.pid].add(record.camid)
    alone = sorted(pid for pid, seen in cameras.items() if len(seen) == 1)
    if alone and len(data.camera_names) > 1:
        yield Finding(
            "warning" if 2 * len(alone) > len(images) else "note",
            "single-camera",
            len(alone),
            f"{len(alone)} of {len(images)} training people were seen by one camera only: nothing is learnt from them about "
            "how a person changes between cameras",
            "people seen by several cameras are worth more; look for the same people under other names",
            first_few([f"person {_name(data, pid)}: {_images(images[pid])}" for pid in alone]),
        )


def _batches(data: ReidData, plan: BatchPlan) -> Iterable[Finding]:
    """Check that there are P people, and K images of each, unless they are unknown: clusters are not known before training."""
    known = _labelled(data.train)
    if not known or len(known) < len(data.train) or not plan.num_instances:
        return
    images = Counter(record.pid for record in known)
    if len(images) < plan.num_ids:
        yield Finding(
            "problem",
            "batch",
            len(images),
            f"a batch takes {plan.num_ids} people x {plan.num_instances} images, the training set has {len(images)} people",
            f"lower SOLVER.IMS_PER_BATCH to {len(images) * plan.num_instances} or less",
        )
    few = sorted(pid for pid, number in images.items() if number < plan.num_instances)
    if few:
        yield Finding(
            "warning" if 2 * len(few) > len(images) else "note",
            "few-images",
            len(few),
            f"{len(few)} of {len(images)} training people have fewer than DATALOADER.NUM_INSTANCE {plan.num_instances} images; "
            f"batches repeat them ({sum(images[pid] == 1 for pid in few)} have a single one)",
            "lower DATALOADER.NUM_INSTANCE, or leave people with a single image out",
            first_few([f"person {_name(data, pid)}: {_images(images[pid])}" for pid in few]),
        )


def _people(records: Sequence[Record]) -> set[int]:
    return {record.pid for record in _labelled(records)}


def _labelled(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.pid != UNLABELLED]


def _name(data: ReidData, pid: int) -> str:
    return data.person_names.get(pid, str(pid))


def _images(number: int) -> str:
    return _several(number, "image", "images")


def _several(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
