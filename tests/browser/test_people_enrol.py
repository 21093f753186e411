"""The page People in a browser: a person added from images, undo, another threshold; by keyboard and on a phone."""

import io
import shutil

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytest.importorskip("uvicorn", reason='needs the extra: pip install "vitreid[serve]"')

from browser_page import wait_until  # noqa: E402
from live_server import live  # noqa: E402
from people_gallery import NumberedCrops, crop, make_people  # noqa: E402

from vitreid.gallery import Gallery  # noqa: E402
from vitreid.gallery.keeping.decision_file import DecisionFile  # noqa: E402
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
    with live(create_app(Gallery.open(folder), NumberedCrops(), enrol=True)) as (port, _):
        yield f"http://127.0.0.1:{port}/people#groups"


def enter(page, address):
    page.add_init_script("localStorage.setItem('who', 'Ann')")
    page.goto(address)
    page.wait_for_selector("#stacks .stack")


def image(number):
    buffer = io.BytesIO()
    crop(number).save(buffer, "PNG")
    return {"name": f"{number}.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


def fill(page, name, *numbers):
    page.fill("#add-name", name)
    page.set_input_files("#add-images", [image(number) for number in numbers])


def test_a_person_is_added_from_images_and_taken_back(either, served, folder):
    page = either
    enter(page, served)
    page.click("#add-part summary")
    fill(page, "Eve <b>", 3, 4)
    assert page.inner_text("#add-chosen").startswith("2 images")
    page.fill("#add-camera", "desk")
    page.click("#add-send")
    page.wait_for_selector("#done:has-text('Eve <b> was added from 2 images.')")
    assert page.input_value("#add-name") == "" and not page.inner_text("#add-chosen")
    assert len(Gallery.open(folder)) == 162
    page.wait_for_selector("#stacks .stack:has-text('Eve <b>')", timeout=20_000)  # without a click
    assert page.query_selector("#stacks .called b") is None
    page.click("#undo")
    page.wait_for_selector("#done:has-text('Taken back.')")
    wait_until(page, "!document.querySelector('#stacks').textContent.includes('Eve')")
    assert len(Gallery.open(folder)) == 160
    page.click("#views a[href='#log']")
    page.wait_for_selector("#entries .undone:has-text('Ann: added Eve <b> from 2 images')")


def test_a_refusal_keeps_what_was_entered(page, served, folder):
    enter(page, served)
    page.click("#add-part summary")
    fill(page, "Eve", 3)
    page.set_input_files("#add-images", [{"name": "x.png", "mimeType": "image/png", "buffer": b"no image"}])
    page.click("#add-send")
    page.wait_for_selector("#error:has-text('This is not an image in')")
    assert page.input_value("#add-name") == "Eve" and page.inner_text("#add-send") == "Add this person"
    page.set_input_files("#add-images", [image(3)])
    page.press("#add-name", "Enter")
    page.wait_for_selector("#done:has-text('Eve was added from 1 image.')")
    assert not page.is_visible("#error")
    fill(page, "Eve", 4)
    page.press("#add-name", "Enter")
    page.wait_for_selector("#error:has-text('choose another name')")
    assert len(DecisionFile(folder).read()) == 1


def test_another_threshold_is_tried_and_applied_by_keyboard(either, served, folder):
    page = either
    enter(page, served)
    page.focus("#threshold-part summary")
    page.keyboard.press("Enter")
    assert "0.78 now: 7 people" in page.inner_text("#threshold-now")
    assert page.input_value("#threshold") == "0.78" and page.is_disabled("#regroup")
    page.fill("#threshold", "0.1")
    page.keyboard.press("Enter")
    page.wait_for_selector("#threshold-result:has-text('0.1 gives')")
    text = page.inner_text("#threshold-result")
    assert page.inner_text("#about").startswith("7 people"), "a preview changes nothing"
    page.fill("#threshold", "0.2")
    assert page.is_disabled("#regroup") and not page.is_visible("#threshold-result")
    page.fill("#threshold", "0.1")
    page.keyboard.press("Enter")
    wait_until(page, "!document.getElementById('regroup').disabled")
    page.focus("#regroup")
    page.keyboard.press("Enter")
    page.wait_for_selector("#done:has-text('All images are grouped up to 0.1')")
    counts = text.removeprefix("0.1 gives ").split(";")[0]
    page.wait_for_selector(f"#about:has-text('{counts}')")
    assert "0.1 now" in page.inner_text("#threshold-now")


def test_the_forms_fit_a_phone(phone, served):
    enter(phone, served)
    for part in ("add", "threshold"):
        phone.click(f"#{part}-part summary")
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    for name in ("add-name", "add-images", "add-camera", "add-send", "threshold", "regroup"):
        box = phone.locator(f"#{name}").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] >= 28


def test_who_may_only_decide_sees_no_form_for_images(page, folder):
    with live(create_app(Gallery.open(folder), NumberedCrops(), decide=True)) as (port, _):
        enter(page, f"http://127.0.0.1:{port}/people#groups")
        assert not page.is_visible("#add-part") and page.is_visible("#threshold-part")
