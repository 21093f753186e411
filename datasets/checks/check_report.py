"""Check of one data set: reads every file once, and reports findings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..records import ReidData
from .duplicates import NEAR_BITS, DuplicateGroup, exact_copies, near_copies
from .entries import SPLITS, Listing
from .finding import LEVELS, Finding
from .image_findings import check_images
from .label_findings import BatchPlan, check_labels
from .read_files import FileScan, scan_files
from .tables import camera_table, count_table, label_range, size_tables


@dataclass(frozen=True)
class CheckReport:
    """Result of a check.

    Args:
        exact: groups of images with equal pixels.
        near: pairs of nearly equal images.
        findings: worst level first.
    """

    listing: Listing
    scan: FileScan
    exact: list[DuplicateGroup]
    near: list[DuplicateGroup]
    findings: list[Finding]

    @property
    def is_usable(self) -> bool:
        """Whether no problem was found; there may be warnings."""
        return all(finding.level != "problem" for finding in self.findings)

    @cached_property
    def text(self) -> str:
        """Tables and findings as text."""
        data, what = self.listing.data, self.listing.data.items
        number = sum(len(getattr(data, split)) for split in SPLITS)
        tracklets = f"{number} {what}, " * (what != "images")
        sizes = self.scan.sizes[self.scan.readable]
        blocks = [
            [f"{data.name}: {tracklets}{len(self.listing.entries)} images in {len(self.listing.files)} files"],
            [*count_table(data), label_range(data)],
            camera_table(data),
            size_tables(sizes),
            [str(finding) for finding in self.findings],
            [self.verdict],
        ]
        return "\n\n".join("\n".join(block) for block in blocks if block)

    @property
    def verdict(self) -> str:
        """The findings in one line."""
        counts = [sum(finding.level == level for finding in self.findings) for level in LEVELS]
        numbers = ", ".join(f"{count} {level}{'s' * (count != 1)}" for count, level in zip(counts, LEVELS))
        advice = "ready for training" if self.is_usable else "solve the problems before training"
        return f"{self.listing.data.name}: {numbers}; {advice}"

    def as_dict(self) -> dict[str, Any]:
        """Return counts and findings for JSON."""
        data = self.listing.data
        return {
            "name": data.name,
            "usable": self.is_usable,
            data.items: {split: len(getattr(data, split)) for split in SPLITS},
            "people": {split: len({record.pid for record in getattr(data, split)}) for split in SPLITS},
            "cameras": list(data.camera_names),
            "findings": [vars(finding) for finding in self.findings],
        }


def check(data: ReidData, plan: BatchPlan, num_threads: int = 2, near_bits: int | None = NEAR_BITS) -> CheckReport:
    """Read every file of a data set once, and report problems.

    Args:
        plan: the batches of the planned training.
        near_bits: see `near_copies`; None = do not look for near copies.
    """
    listing = Listing(data)
    seen = scan_files(listing.files, num_threads)
    exact = exact_copies(listing, seen)
    near = [] if near_bits is None else near_copies(listing, seen, near_bits)
    contents = {path: content for path, content in zip(seen.paths, seen.contents) if content}
    findings = [*check_labels(data, plan, contents), *check_images(listing, seen, exact, near)]
    findings.sort(key=lambda finding: LEVELS.index(finding.level))  # stable
    return CheckReport(listing, seen, exact, near, findings)
