"""The pages for people who use a keyboard or a screen reader: axe-core finds nothing, every state is announced."""

from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
axe = pytest.importorskip("axe_playwright_python", reason="needs axe-core: pip install axe-playwright-python")
pytest.importorskip("uvicorn", reason='needs the extra: pip install "vitreid[serve]"')

from browser_page import found, make_recordings, serving  # noqa: E402
from live_server import live  # noqa: E402
from people_gallery import NumberedCrops, make_people  # noqa: E402
from web_gallery import MeanColour  # noqa: E402

from vitreid.gallery import Gallery  # noqa: E402
from vitreid.gallery.web import create_app  # noqa: E402

pytestmark = pytest.mark.browser
AXE = Path(axe.__path__[0], "axe.min.js").read_text(encoding="utf-8")
FINDINGS = """async () => (await axe.run()).violations.map(
    (found) => `${found.impact} ${found.id}: ${found.nodes.map((node) => node.html).join(" ")}`)"""


def findings(page):
    """Return what axe-core finds on the page as it is."""
    page.evaluate(AXE)
    return page.evaluate(FINDINGS)


def at_the_start(page, address):
    page.goto(address)
    page.wait_for_selector(".pick")


def with_results(page, address):
    page.goto(f"{address}#id=0")
    found(page)


def with_open_filters(page, address):
    with_results(page, address)
    page.evaluate("document.getElementById('filters').open = true")
    page.click(".chip:has-text('c2')")
    found(page)


def with_an_error(page, address):
    page.goto(f"{address}#id=99")
    page.wait_for_selector("#error:not([hidden])")


def of_the_api(page, address):
    page.goto(f"{address}docs")
    page.wait_for_selector("#routes article")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("show", [at_the_start, with_results, with_open_filters, with_an_error, of_the_api])
def test_axe_finds_nothing(show, scheme, either, address):
    either.emulate_media(color_scheme=scheme)
    show(either, address)
    assert findings(either) == []


def test_axe_finds_nothing_in_the_dialog_for_the_token(either, files):
    with serving(files, token="s3cret") as address:
        either.goto(address)
        either.wait_for_selector("#login[open]")
        assert findings(either) == []


def test_a_screen_reader_hears_what_happens(page, address):
    """Verdict and errors are live regions; a result's button says all that its card shows."""
    with_results(page, address)
    assert page.get_attribute("#verdict", "role") == "status" and page.get_attribute("#error", "role") == "alert"
    label = page.get_attribute(".pick >> nth=0", "aria-label")
    assert (
        label.startswith("Rank 1, distance 0.0") and ", match, person <b>1</b>, camera c2, 2023-11-14 23:14:20" in label
    )
    name = page.get_by_label("Choose a crop of a person")
    assert name.get_attribute("type") == "file"


def test_all_controls_are_reached_by_tab_and_the_focus_is_seen(page, address):
    with_results(page, address)
    page.focus("h1 a")
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    for control in ("file", "another", "attention", "copy", "camera-mode", "from", "others", "topk", "where", "clear"):
        assert control in seen, control
    assert {"download", "pick", "attend"} <= set(seen)
    page.focus("#clear")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("id", [2, 4], ids=["played", "crops"])
def test_axe_finds_nothing_in_the_player(id, either, tmp_path):
    with live(create_app(Gallery.open(make_recordings(tmp_path)), MeanColour())) as (port, _):
        either.goto(f"http://127.0.0.1:{port}/#id=0")
        found(either)
        either.click(f".card:has([data-id='{id}']) .play")
        either.wait_for_selector("#player[open] #player-crops img[src^='blob:']")
        assert findings(either) == []
        either.keyboard.press("Escape")
        assert findings(either) == []


PEOPLE = {"": "#ask:not([hidden]) .side", "#groups": ".stack", "#person=120": "#near .stack", "#log": "#entries li"}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    app = create_app(Gallery.open(make_people(tmp_path_factory.mktemp("people"))), NumberedCrops(), enrol=True)
    with live(app) as (port, _):
        yield f"http://127.0.0.1:{port}/people"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", PEOPLE)
def test_axe_finds_nothing_in_the_page_people(view, scheme, either, people):
    either.emulate_media(color_scheme=scheme)
    either.goto(f"{people}{view}")
    either.wait_for_selector(PEOPLE[view])
    either.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert findings(either) == []
    either.click("#rename-me")
    assert findings(either) == []


def test_the_answers_and_the_messages_of_the_page_people_are_announced(page, people):
    page.goto(people)
    page.wait_for_selector(PEOPLE[""])
    assert page.get_attribute("#done", "role") == "status" and page.get_attribute("#error", "role") == "alert"
    assert page.get_attribute(".side > img >> nth=0", "alt").startswith("Left: ")
    page.focus("#rename-me")
    seen = []
    for _ in range(6):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.dataset.answer ?? ''"))
    assert {"same", "different", "unsure"} <= set(seen)
