"""A gallery of recordings in the page: when and where, the found seconds, the time line, from sighting to sighting."""

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytest.importorskip("uvicorn", reason='needs the extra: pip install "vitreid[serve]"')

from browser_page import FPS, VISITS, box_at, found, make_recordings, serving, wait_until  # noqa: E402
from live_server import live  # noqa: E402
from web_gallery import MeanColour  # noqa: E402

from vitreid.gallery import Gallery  # noqa: E402
from vitreid.gallery.web import create_app  # noqa: E402

pytestmark = pytest.mark.browser
VIDEO = "document.getElementById('player-video')"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return make_recordings(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def address(recordings):
    with live(create_app(Gallery.open(recordings), MeanColour())) as (port, _):
        yield f"http://127.0.0.1:{port}/"


def play(page, id):
    """Open the player at a result."""
    page.click(f".card:has([data-id='{id}']) .play")
    page.wait_for_selector("#player[open]")


def test_a_track_says_where_and_when_it_was_seen(either, address):
    """In the time zone of its camera."""
    either.goto(f"{address}#id=0")
    found(either)
    facts = either.locator(".card:has([data-id='2']) .where span").all_inner_texts()
    assert facts == ["camera yard", "2026-01-31 09:00:02 to 09:00:05 UTC+01:00", "frame 35", "track 2"]
    assert either.evaluate("document.documentElement.scrollWidth") == either.viewport_size["width"]


def test_the_found_seconds_are_played_with_the_box_over_them(either, address):
    either.goto(f"{address}#id=0")
    found(either)
    play(either, 2)
    first, last = VISITS[2][2] / FPS, VISITS[2][3] / FPS
    wait_until(either, f"{VIDEO}.currentTime >= {first} && !{VIDEO}.seeking")
    wait_until(either, f"{VIDEO}.paused && {VIDEO}.currentTime >= {last}")
    assert either.evaluate(f"{VIDEO}.currentTime") < last + 1.5
    either.click("#player-where")
    wait_until(either, "!document.getElementById('player-box').hidden")
    shown, box = either.locator("#player-video").bounding_box(), either.locator("#player-box").bounding_box()
    scale = shown["width"] / either.evaluate(f"{VIDEO}.videoWidth")
    x, y, width, height = box_at(VISITS[2][2], 35)
    expected = [shown["x"] + x * scale, shown["y"] + y * scale, width * scale, height * scale]
    assert [box[key] for key in ("x", "y", "width", "height")] == pytest.approx(expected, abs=1.5)
    either.click("#player-again")
    wait_until(either, f"!{VIDEO}.paused && {VIDEO}.currentTime < {last}")


def test_the_crop_of_a_frame_shows_that_moment(page, address):
    page.goto(f"{address}#id=0")
    found(page)
    play(page, 2)
    page.wait_for_selector("#player-crops li:nth-child(3) img")
    wait_until(page, f"{VIDEO}.readyState > 0")
    page.click("#player-crops li:nth-child(1) button")
    wait_until(page, f"{VIDEO}.paused && Math.abs({VIDEO}.currentTime - {VISITS[2][2] / FPS}) < 0.02")


def test_a_recording_that_browsers_do_not_play_shows_its_crops(either, address):
    either.goto(f"{address}#id=0")
    found(either)
    play(either, 4)
    either.wait_for_selector("#player-note:has-text('Browsers do not play .avi recordings')")
    assert not either.is_visible("#player-stage") and not either.is_visible("#player-where")
    either.wait_for_selector("#player-crops li:nth-child(2).now img")  # one after the other


def test_from_sighting_to_sighting_in_the_order_of_time(either, address):
    """Of the person: results beyond the threshold are left out."""
    either.goto(f"{address}#id=0")
    assert set(found(either)) == {1, 2, 3, 4}
    play(either, 2)
    place = either.locator("#player-place")
    sync_api.expect(place).to_have_text("Sighting 1 of 3")
    assert either.is_disabled("#player-previous")
    either.click("#player-next")
    sync_api.expect(place).to_have_text("Sighting 2 of 3")
    assert "track 3" in either.inner_text("#player-title")
    either.click("#player-next")
    sync_api.expect(place).to_have_text("Sighting 3 of 3")
    assert either.is_disabled("#player-next") and "camera gate" in either.inner_text("#player-title")
    either.click("#player-previous")
    sync_api.expect(place).to_have_text("Sighting 2 of 3")
    either.keyboard.press("Escape")
    wait_until(either, f"{VIDEO}.getAttribute('src') === null")  # once the browser has closed the player
    assert not either.is_visible("#player")


def test_the_time_line_has_a_row_per_camera_and_opens_what_is_chosen(either, address):
    either.goto(f"{address}#id=0")
    found(either)
    assert either.locator(".camera-name").all_inner_texts() == ["gate", "lobby", "yard"]
    assert either.locator(".camera-line:nth-child(3) .mark").count() == 2
    assert "2026-01-31 08:00:04 UTC+01:00" in either.inner_text(".ends")
    marks = {
        int(mark.get_attribute("data-mark")): mark.bounding_box()["x"] for mark in either.query_selector_all(".mark")
    }
    assert marks[1] < marks[2] <= marks[3] < marks[4]
    either.click(".mark[data-mark='4']")
    either.wait_for_selector("#player[open]")
    assert "camera gate" in either.inner_text("#player-title")


def test_filters_by_time_of_day_and_duration(either, address):
    either.goto(f"{address}#id=0")
    found(either)
    either.evaluate("document.getElementById('filters').open = true")
    either.fill("#dayfrom", "08:30")
    either.fill("#dayto", "12:00")
    either.press("#dayto", "Tab")
    sync_api.expect(either.locator(".pick")).to_have_count(2)
    assert set(found(either)) == {2, 3} and "dayfrom=08%3A30" in either.url
    either.fill("#least", "2.5")
    either.press("#least", "Tab")
    sync_api.expect(either.locator(".pick")).to_have_count(1)
    assert found(either) == [2] and either.inner_text("#filter-count") == "2"
    either.fill("#dayfrom", "19:00")  # over midnight
    either.fill("#dayto", "08:59")
    either.press("#dayto", "Tab")
    sync_api.expect(either.locator(".pick")).to_have_count(2)
    assert set(found(either)) == {1, 4}
    either.reload()
    assert set(found(either)) == {1, 4} and either.input_value("#dayto") == "08:59"
    either.evaluate("document.getElementById('filters').open = true")
    either.click("#clear")
    sync_api.expect(either.locator(".pick")).to_have_count(4)


def test_with_a_token_the_recording_is_played_too(page, recordings):
    with live(create_app(Gallery.open(recordings), MeanColour(), token="s3cret")) as (port, _):
        page.add_init_script("sessionStorage.setItem('token', 's3cret')")
        page.goto(f"http://127.0.0.1:{port}/#id=0")
        found(page)
        play(page, 2)
        wait_until(page, f"{VIDEO}.readyState > 0 && {VIDEO}.currentTime > 0")
        page.wait_for_selector("#player-crops img[src^='blob:']")


def test_the_keyboard_plays_and_closes(page, address):
    page.goto(f"{address}#id=0")
    found(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("p")
    page.wait_for_selector("#player[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#player", state="hidden")
    assert page.evaluate("document.activeElement.closest('.card') !== null")


def test_pictures_without_a_recording_have_none_of_this(page, address, files):
    with serving(files) as plain:
        page.goto(f"{plain}#id=0")
        found(page)
        assert (
            not page.query_selector(".play") and not page.is_visible("#day-filter") and not page.is_visible("#play-key")
        )
        assert page.is_visible("#timeline")  # they have times, too
        page.click(".mark >> nth=0")
        assert page.evaluate("document.activeElement.className") == "pick"
