"""The gallery's page in a real browser: `pip install playwright`, and chromium on the PATH or `playwright install chromium`."""

import csv
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytest.importorskip("uvicorn", reason='needs the extra: pip install "vitreid[serve]"')

from browser_page import found, serving, wait_until  # noqa: E402
from web_gallery import THRESHOLD  # noqa: E402

pytestmark = pytest.mark.browser


def shows(page, count):
    """Wait until so many people are shown."""
    sync_api.expect(page.locator(".pick")).to_have_count(count)


def test_an_upload_is_searched_and_its_link_can_be_shared(page, address, files, browser):
    page.goto(address)
    page.set_input_files("#file", str(files / "0.png"))
    assert found(page)[:3] == [0, 1, 4]
    assert page.inner_text("#verdict") == "match 3 of 6 within the threshold 0.250."
    kinds = page.eval_on_selector_all("#results > li", "items => items.map(item => item.className)")
    assert kinds == ["card same"] * 3 + ["threshold"] + ["card different"] * 3
    other = browser.new_page()
    other.goto(page.url)
    assert found(other) == found(page) and other.is_visible("#query-none")
    other.close()


def test_a_result_becomes_the_query_and_back_goes_back(page, address, files):
    page.goto(address)
    page.set_input_files("#file", str(files / "0.png"))
    before = found(page)
    page.click(".pick >> nth=3")
    page.wait_for_url("**#id=*")
    page.wait_for_selector("#query-text:has-text('person')")
    assert before[3] not in found(page)
    page.go_back()
    shows(page, 6)
    assert found(page) == before and page.is_visible("#query-image")


def test_filters_are_in_the_address(page, address):
    page.goto(f"{address}#id=0")
    assert len(found(page)) == 5
    page.click(".chip:has-text('c 3, left')")
    shows(page, 1)
    assert found(page) == [4] and "camera=c+3%2C+left" in page.url
    page.select_option("#camera-mode", "1")
    shows(page, 4)
    page.reload()
    assert len(found(page)) == 4 and page.inner_text("#filter-count") == "1"
    page.click("#clear")
    shows(page, 5)
    page.fill("#from", "2023-11-14T23:16")  # 1.7e9 s is 22:13:20 UTC, 23:13:20 here
    page.press("#from", "Tab")
    shows(page, 3)
    assert set(found(page)) == {3, 4, 5} and "from=2023-11-14T23%3A16%2B01%3A00" in page.url
    page.reload()
    assert set(found(page)) == {3, 4, 5} and page.input_value("#from") == "2023-11-14T23:16"


def test_names_are_text_not_markup(page, address):
    page.goto(f"{address}#id=0")
    found(page)
    assert page.query_selector(".where b") is None and "person <b>" in page.inner_text(".where >> nth=0")


def test_errors_are_sentences_and_go_away(page, address, files):
    page.goto(address)
    page.set_input_files("#file", str(files / "note.png"))
    page.wait_for_selector("#error:not([hidden])")
    assert "not an image" in page.inner_text("#error")
    for end, text in (
        ("#id=99", "not in the gallery"),
        ("#v=!", "damaged"),
        ("#id=0&where=shoe%3D9", "no column 'shoe'"),
    ):
        page.goto(f"{address}{end}")
        page.wait_for_selector(f'#error:has-text("{text}")')
    page.goto(f"{address}#id=0&camera=c2&from=2030-01-01T00:00")
    page.wait_for_selector("#verdict:has-text('No image of the gallery passes these filters')")
    page.goto(f"{address}#id=0")
    assert len(found(page)) == 5 and not page.is_visible("#error")


def test_everything_can_be_done_by_keyboard(page, address):
    page.goto(address)
    page.wait_for_selector(".pick")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url("**#id=1")
    found(page)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("a")
    page.wait_for_selector(".attend[aria-pressed=true]")
    page.wait_for_selector(".pick img[src^='blob:']")
    page.keyboard.press("f")
    assert not page.evaluate("document.getElementById('filters').open")
    with page.expect_file_chooser():
        page.keyboard.press("u")


def test_attention_lies_over_the_query_and_goes_off_again(page, address):
    page.goto(f"{address}#id=0")
    found(page)
    plain = page.get_attribute("#query-image", "src")
    page.click("#attention")
    page.wait_for_selector("#query-image[src^='blob:']")
    page.click("#attention")
    page.wait_for_selector("#query-image[src$='image/0']")
    assert page.get_attribute("#query-image", "src").endswith(plain)


COUNT_ADDRESSES = """
window.living = new Set();
const create = URL.createObjectURL, revoke = URL.revokeObjectURL;
URL.createObjectURL = (blob) => { const address = create.call(URL, blob); living.add(address); return address; };
URL.revokeObjectURL = (address) => { living.delete(address); revoke.call(URL, address); };
"""


@pytest.mark.parametrize("token", [None, "s3cret"])
def test_object_urls_are_freed_once_their_picture_is_shown(page, files, token):
    """Otherwise every upload and every attention map stays in memory until the page is closed."""
    with serving(files, token=token) as address:
        check_object_urls(page, files, address, token)


def check_object_urls(page, files, address, token):
    page.add_init_script(COUNT_ADDRESSES + f"sessionStorage.setItem('token', '{token or ''}');")
    page.goto(address)
    for name in ("0.png", "2.png"):
        page.set_input_files("#file", str(files / name))
        found(page)
        page.click("#attention")
        page.wait_for_selector("#attention[aria-pressed=true]")
        page.click(".attend >> nth=0")
        page.wait_for_selector(".attend[aria-pressed=true]")
    wait_until(page, "living.size === 0")
    page.click(".attend >> nth=0")
    wait_until(page, "document.querySelector('.pick img').naturalWidth === 32 && living.size === 0")
    assert not page.query_selector(".gone")


def test_attention_off_shows_the_picture_of_the_present_query(page, address):
    """Not that of the query whose attention was shown before."""
    for id in (0, 1):
        page.goto(f"{address}#id={id}")
        page.wait_for_selector(f"#query-image[src$='image/{id}']")
        page.click("#attention")
        page.wait_for_selector("#query-image[src^='blob:']")
        page.click("#attention")
        page.wait_for_selector(f"#query-image[src$='image/{id}']")


def test_a_phones_width_is_enough(phone, address):
    phone.goto(f"{address}#id=0")
    found(phone)
    phone.tap("#filters summary")
    phone.wait_for_selector("#cameras", state="visible")
    assert phone.evaluate("document.documentElement.scrollWidth") == 390


def test_an_error_is_seen_on_a_phone_whose_filters_are_open(phone, address):
    """In the page's words, and until it is closed."""
    phone.goto(f"{address}#id=0")
    found(phone)
    phone.tap("#filters summary")
    phone.fill("#where", "shoe=9")
    phone.press("#where", "Tab")
    phone.wait_for_selector("#error:not([hidden])")
    assert phone.inner_text("#error-text").startswith("More conditions: no column 'shoe'; the records have ")
    box = phone.locator("#error").bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= 800 and phone.evaluate("scrollY") > 0
    phone.tap("#error-close")
    assert not phone.is_visible("#error")


def test_a_camera_that_is_missing_is_asked_for_by_its_label(page, address, files):
    page.goto(address)
    page.set_input_files("#file", str(files / "0.png"))
    found(page)
    page.check("#others")
    page.wait_for_selector("#error:has-text('choose it under “Camera of the uploaded crop”')")


@pytest.mark.parametrize("tar, word", [(0.9, "no match"), (0.95, "no match"), (0.21, "unsure"), (None, "unsure")])
def test_beyond_the_threshold_nobody_is_called_another_person(tar, word, page, files):
    """The threshold lets few strangers pass, so it also misses pairs of one person; both shares stand at the line."""
    with serving(files, threshold={**THRESHOLD, "fmr": 0.01, "tar": tar}) as address:
        page.goto(f"{address}#id=0")
        found(page)
        assert page.locator(".card.different .badge").all_inner_texts() == [word] * 3
        line = page.inner_text(".threshold")
        assert "1 % of pairs of different people are this close" in line
        if tar:
            assert f"{100 - 100 * tar:.2g} % of pairs of one person are farther apart" in line
        page.goto(f"{address}#id=2")
        page.wait_for_selector(f"#verdict:has-text('{word} Nobody here is within the threshold 0.250.')")


def test_times_are_those_of_the_visitor(page, address):
    page.goto(f"{address}#id=1")
    found(page)
    assert "2023-11-14 23:14:20 GMT+1" in page.inner_text("#query-text")
    assert "GMT+1" in page.inner_text("#time-unit")


def test_an_address_without_a_time_zone_means_utc(page, address):
    """As links of earlier versions have it."""
    page.goto(f"{address}#id=0&from=2023-11-14T22:16")
    assert set(found(page)) == {3, 4, 5} and page.input_value("#from") == "2023-11-14T23:16"


def test_results_are_downloaded_as_a_table(page, files):
    """Spreadsheets take no cell for a formula."""
    with serving(files, changes=[(1, {"pid": '=HYPERLINK("x")', "note": 'a, "b"'})]) as address:
        page.goto(f"{address}#id=0&topk=10")
        ids = found(page)
        with page.expect_download() as download:
            page.click("#download")
        text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(text.splitlines()))
    assert download.value.suggested_filename == "results.csv"
    assert [int(row["id"]) for row in rows] == ids and [row["rank"] for row in rows] == list("12345")
    assert rows[0]["pid"] == '\'=HYPERLINK("x")' and rows[0]["note"] == 'a, "b"' and rows[0]["verdict"] == "match"
    assert rows[0]["when"] == "2023-11-14 23:14:20 GMT+1" and rows[4]["camera"] == "c2"


def test_a_token_is_asked_for_once(page, files):
    with serving(files, token="s3cret") as address:
        page.goto(f"{address}#id=0")
        page.wait_for_selector("#login[open]")
        page.fill("#token", "wrong")
        page.click("#login button")
        page.wait_for_selector("#login-error:has-text('wrong')")
        page.fill("#token", "s3cret")
        page.click("#login button")
        assert len(found(page)) == 5
        page.wait_for_selector(".pick img[src^='blob:']")
        assert not page.query_selector(".gone")
        page.reload()
        assert len(found(page)) == 5
