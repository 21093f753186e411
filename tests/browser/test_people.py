"""The page People in a browser: keys, undo, two windows, merging, splitting, moving, naming, the log, a phone."""

import shutil

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytest.importorskip("uvicorn", reason='needs the extra: pip install "vitreid[serve]"')

from browser_page import wait_until  # noqa: E402
from live_server import live  # noqa: E402
from people_gallery import NumberedCrops, make_people  # noqa: E402

from vitreid.gallery import Gallery  # noqa: E402
from vitreid.gallery.keeping.decision_file import Decision, DecisionFile  # noqa: E402
from vitreid.gallery.web import create_app  # noqa: E402

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_people(tmp_path_factory.mktemp("people"))


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "G")


@pytest.fixture
def served(folder):
    with live(create_app(Gallery.open(folder), NumberedCrops(), decide=True)) as (port, _):
        yield f"http://127.0.0.1:{port}/people"


def log(folder):
    return [(one.kind, one.who) for one in DecisionFile(folder).read()]


def enter(page, address, view="", who="Ann"):
    page.add_init_script(f"localStorage.setItem('who', '{who}')")
    page.goto(f"{address}{view}")
    page.wait_for_selector("#ask:not([hidden]) .side" if not view else "#stacks .stack, #members li, #entries li")


def shown(page):
    return page.eval_on_selector_all(".side > img", "images => images.map(image => image.src)")


def wait_for(page, folder, count):
    """Wait until so many decisions are written."""
    for _ in range(600):
        if len(log(folder)) == count:
            return
        page.wait_for_timeout(50)
    raise AssertionError(log(folder))


def people(page):
    return int(page.inner_text("#about").split()[0])


def test_questions_are_answered_by_keys_and_undone(page, served, folder):
    enter(page, served)
    first = shown(page)
    assert page.inner_text("#ask-title") == "Are these parts of a group one person?" and page.is_disabled("#undo")
    page.keyboard.press("n")
    wait_for(page, folder, 1)
    wait_until(page, "document.getElementById('about').textContent.startsWith('8 people')")
    assert shown(page) != first
    page.keyboard.press("u")
    wait_for(page, folder, 2)
    page.keyboard.press("z")
    wait_for(page, folder, 3)
    page.keyboard.press("z")
    wait_for(page, folder, 4)
    wait_until(page, "document.getElementById('about').textContent.startsWith('7 people')")
    assert [kind for kind, _ in log(folder)] == ["different", "unsure", "undo", "undo"]
    wait_until(page, f"document.querySelector('.side > img')?.src === '{first[0]}'")
    page.keyboard.press("y")
    wait_for(page, folder, 5)
    assert log(folder)[-1] == ("same", "Ann")


def test_a_fast_person_loses_no_answer(page, served, folder):
    """The next question is there before the last answer is written."""
    enter(page, served)
    for _ in range(3):
        page.keyboard.press("u")
    wait_for(page, folder, 3)
    pairs = {frozenset(one.rows) for one in DecisionFile(folder).read()}
    assert len(pairs) == 3, "three pairs, each once"


def test_the_name_is_asked_for_once_and_kept(page, served, folder):
    page.goto(served)
    page.wait_for_selector("#ask:not([hidden]) .side")
    page.keyboard.press("u")
    page.wait_for_selector("#who[open]")
    page.fill("#who-name", "Zoë")
    page.keyboard.press("Enter")
    wait_for(page, folder, 1)
    page.click("#answers [data-answer=unsure]")
    wait_for(page, folder, 2)
    assert {who for _, who in log(folder)} == {"Zoë"} and page.inner_text("#rename-me") == "You are Zoë"
    page.click("#rename-me")
    page.keyboard.press("Escape")
    assert page.inner_text("#rename-me") == "You are Zoë"


def test_two_windows_see_each_others_decisions_and_none_is_lost(page, browser, served, folder):
    enter(page, served)
    other = browser.new_page()
    enter(other, served, who="Bob")
    assert shown(page) != shown(other), "two people are asked different questions"
    page.keyboard.press("u")
    other.keyboard.press("u")
    wait_for(page, folder, 2)
    other.goto(f"{served}#log")
    other.wait_for_selector("#entries li >> nth=1")
    assert sorted(who for _, who in log(folder)) == ["Ann", "Bob"]
    enter(page, served, "#groups")
    page.reload()
    page.wait_for_selector(".stack")
    for i in (1, 2):
        page.check(f".stack >> nth={i} >> input")
    page.click("#merge")
    wait_for(page, folder, 3)
    other.wait_for_selector("#entries li:has-text('Ann: merged 2 people')", timeout=10_000)
    wait_until(other, "document.getElementById('about').textContent.startsWith('6 people')")
    other.click("#entries li >> nth=0 >> button")
    wait_for(other, folder, 4)
    wait_until(page, "document.getElementById('about').textContent.startsWith('7 people')")
    assert log(folder)[-1] == ("undo", "Bob")
    other.close()


def test_a_person_is_named_found_and_renamed(page, served, folder):
    enter(page, served, "#groups")
    page.click("#stacks .stack >> nth=3 >> a")
    page.wait_for_selector("#members li")
    page.fill("#name", "<b>Eve</b>")
    page.keyboard.press("Enter")
    wait_until(page, "document.getElementById('person-title').textContent === '<b>Eve</b>'")
    assert page.query_selector("#person-title b") is None
    page.click("#views a[href='#groups']")
    page.fill("#find", "eve")
    wait_until(page, "document.querySelectorAll('#stacks .stack').length === 1")
    assert page.inner_text("#stacks .called") == "<b>Eve</b>"
    page.fill("#find", "")
    wait_until(page, "document.querySelectorAll('#stacks .stack').length === 7")
    page.click("#stacks .stack:not(:has-text('Eve')) >> nth=1 >> a")
    page.wait_for_selector("#members li")
    page.fill("#name", "<b>Eve</b>")
    page.keyboard.press("Enter")
    page.wait_for_selector("#error:has-text('merge the two, or choose another name')")
    assert len(log(folder)) == 1


def test_images_are_split_off_moved_and_merged(page, served, folder):
    enter(page, served, "#person=120")
    assert page.locator("#members li").count() == 40 and page.is_disabled("#split")
    for number in range(140, 160):
        page.check(f".member[data-id='{number}'] input")
    page.click("text=Split off 20 as another person")
    wait_until(page, "document.querySelectorAll('#members li').length === 20")
    assert people(page) in (7, 8)
    page.wait_for_selector("#near .stack")
    page.check(".member[data-id='125'] input")
    page.click("#near .move >> nth=0")
    wait_until(page, "document.querySelectorAll('#members li').length === 19")
    page.click("#near .stack:last-child .buttons button >> nth=0")  # not the one that the image was moved to
    wait_until(page, "document.querySelectorAll('#members li').length >= 39")
    assert [kind for kind, _ in log(folder)][:2] == ["split", "move"]


def test_the_focus_stays_when_another_window_decides(page, served, folder):
    enter(page, served, "#person=0")
    page.focus(".member[data-id='3'] input")
    DecisionFile(folder).append([Decision("same", "Bob", keys(folder, 40, 60))])
    page.wait_for_selector("#about:has-text('6 people')")
    page.wait_for_timeout(500)
    assert page.evaluate("document.activeElement.dataset.id") == "3"


def keys(folder, *ids):
    found = Gallery.open(folder).live_keys().to_pylist()
    return tuple(found[id].hex() for id in ids)


def test_a_refused_decision_is_said_and_the_question_comes_back(page, served, folder):
    enter(page, served)
    first = shown(page)
    page.route(
        "**/people/decide", lambda route: route.fulfill(status=409, json={"detail": "these rows were said to differ"})
    )
    page.keyboard.press("y")
    page.wait_for_selector("#error:has-text('These rows were said to differ.')")
    wait_until(page, f"document.querySelector('.side > img')?.src === '{first[0]}'")
    page.unroute("**/people/decide")
    page.keyboard.press("u")
    wait_for(page, folder, 1)
    assert not page.is_visible("#error")


def test_a_server_without_decide_shows_people_only(page, folder):
    with live(create_app(Gallery.open(folder), NumberedCrops())) as (port, _):
        page.goto(f"http://127.0.0.1:{port}/")
        page.click("#tabs >> text=People")
        page.wait_for_selector(".stack")
        assert (
            not page.is_visible("#to-ask") and not page.is_visible("#merge") and not page.query_selector(".stack input")
        )
        page.click("#stacks .stack >> nth=0 >> a")
        page.wait_for_selector("#members li")
        assert not page.is_visible("#name-form") and not page.query_selector(".member input")


def test_pictures_are_shown_with_a_token(page, folder):
    with live(create_app(Gallery.open(folder), NumberedCrops(), decide=True, token="s3cret")) as (port, _):
        page.goto(f"http://127.0.0.1:{port}/people")
        page.wait_for_selector("#login[open]")
        page.fill("#token", "s3cret")
        page.keyboard.press("Enter")
        page.wait_for_selector(".side > img[src^='blob:']")


@pytest.mark.parametrize("view", ["", "#groups", "#person=120", "#log"])
def test_a_phones_width_is_enough(view, phone, served):
    enter(phone, served, view)
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    if not view:
        for answer in ("same", "different", "unsure"):
            box = phone.locator(f"#answers [data-answer={answer}]").bounding_box()
            assert box["height"] >= 40 and box["y"] + box["height"] <= 800, "answered without scrolling"
