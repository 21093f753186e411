"""The report in a browser: six named cameras, people with names, on a desktop and on a phone."""

from pathlib import Path

import numpy as np
import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
axe = pytest.importorskip("axe_playwright_python", reason="needs axe-core: pip install axe-playwright-python")

from report_crowd import crowd  # noqa: E402

from vitreid.configs import OPTIONS  # noqa: E402
from vitreid.report import OptionValue, RunContents, build_report  # noqa: E402

pytestmark = pytest.mark.browser
AXE = Path(axe.__path__[0], "axe.min.js").read_text(encoding="utf-8")
CAMERAS = ("entrance north", "loading dock", "parking level 2", "corridor 3rd floor", "cafeteria", "roof terrace")
CUT = """() => [...document.querySelectorAll("table")].filter((table) => table.getClientRects().length)
    .filter((table) => table.scrollWidth > table.closest(".scroll").clientWidth).map((table) => table.caption.textContent)"""
OUTSIDE = """() => [...document.querySelectorAll(".texts td")]
    .filter((cell) => cell.getBoundingClientRect().right > innerWidth).map((cell) => cell.textContent)"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    names = {pid: f"Bartholomew Featherstonehaugh {pid}" for pid in range(10)}
    rng = np.random.default_rng(0)
    test = crowd(
        *(10, 12),
        camera_names=CAMERAS,
        person_names=names,
        q_camids=rng.integers(0, 6, 10),
        g_camids=rng.integers(0, 6, 110),
    )
    changed = ("MODEL.NAME", "MODEL.STEM", "INPUT.SIZE_TRAIN", "DATASETS.NAMES", "SOLVER.OPTIMIZER_NAME")
    options = [OptionValue(key, "another", OPTIONS[key].default, OPTIONS[key].help) for key in changed]
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(build_report(RunContents("own", options=options, test=test), 2).html, encoding="utf-8")
    return file.as_uri()


def test_nothing_is_cut_on_a_desktop(page, report):
    page.set_viewport_size({"width": 1366, "height": 800})
    page.goto(report)
    assert page.evaluate(CUT) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 1366


def test_on_a_phone_each_meaning_is_on_the_screen(phone, report):
    phone.goto(report)
    assert phone.evaluate(OUTSIDE) == []
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    meaning = phone.locator(".texts td:last-child").first
    assert meaning.bounding_box()["width"] > 300


def test_names_stand_below_the_crops_and_within_their_tiles(either, report):
    either.goto(report)
    assert "Bartholomew Featherstonehaugh 8" in either.inner_text("#queries")
    wide = "() => [...document.querySelectorAll('.tile span')].filter((text) => text.scrollWidth > text.parentNode.clientWidth)"
    assert either.evaluate(f"({wide})().length") == 0


def test_axe_finds_nothing_in_a_report(either, report):
    either.goto(report)
    either.evaluate(AXE)
    found = either.evaluate("async () => (await axe.run()).violations.map((one) => `${one.impact} ${one.id}`)")
    assert found == []
