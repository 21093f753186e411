"""The gallery's page in a real browser: `pip install playwright`, and chromium on the PATH or `playwright install chromium`."""

import shutil
import socket
import threading
import time

import numpy as np
import pytest
from PIL import Image
from web_gallery import CAMERAS, COLOURS, THRESHOLD, MeanColour

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
uvicorn = pytest.importorskip("uvicorn", reason='needs the extra: pip install "vitreid[serve]"')

from vitreid.gallery import Gallery, GalleryInfo  # noqa: E402
from vitreid.gallery.web import create_app  # noqa: E402

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    for i, colour in enumerate(COLOURS):
        Image.new("RGB", (32, 64), colour).save(root / f"{i}.png")
    (root / "note.png").write_text("no image")
    return root


def serve(files, **options):
    """Start a server in a thread; return it and its address."""
    gallery = Gallery.create(
        files / f"g{len(options)}", GalleryInfo(MeanColour.fingerprint, 3, threshold=THRESHOLD), overwrite=True
    )
    records = [
        {"path": str(files / f"{i}.png"), "camera": CAMERAS[i], "time": 1.7e9 + 60 * i, "pid": f"<b>{i}</b>"}
        for i in range(6)
    ]
    images = [np.asarray(Image.open(record["path"])) for record in records]
    gallery.add(MeanColour()(images, CAMERAS), records, MeanColour.fingerprint)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(create_app(gallery, MeanColour(), **options), port=port, log_level="warning")
    )
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return server, f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def address(files):
    server, address = serve(files)
    yield address
    server.should_exit = True


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"needs chromium: {error.message.splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page; a script error on it fails the test."""
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.set_default_timeout(30_000)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("filechooser", lambda _: None)  # choosers are caught from now on; asked for later, the key may be quicker
    yield page
    page.close()
    assert not errors


def found(page):
    """Wait for the end of the search; return the ids in the order shown."""
    page.wait_for_selector("body:not(.busy) .card .distance")
    return [int(pick.get_attribute("data-id")) for pick in page.query_selector_all(".pick")]


def shows(page, count):
    """Wait until so many people are shown."""
    sync_api.expect(page.locator(".pick")).to_have_count(count)


def wait_until(page, condition):
    """Wait for a JavaScript condition; the page's security policy forbids `page.wait_for_function`."""
    deadline = time.monotonic() + 30
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)


def test_an_upload_is_searched_and_its_link_can_be_shared(page, address, files, browser):
    page.goto(address)
    page.set_input_files("#file", str(files / "0.png"))
    assert found(page)[:3] == [0, 1, 4]
    assert page.inner_text("#verdict") == "same person 3 of 6 within the threshold 0.250."
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
    page.fill("#from", "2023-11-14T22:16")  # 1.7e9 s is 22:13:20
    page.press("#from", "Tab")
    shows(page, 3)
    assert set(found(page)) == {3, 4, 5}


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
    server, address = serve(files, token=token)
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
    server.should_exit = True


def test_attention_off_shows_the_picture_of_the_present_query(page, address):
    """Not that of the query whose attention was shown before."""
    for id in (0, 1):
        page.goto(f"{address}#id={id}")
        page.wait_for_selector(f"#query-image[src$='image/{id}']")
        page.click("#attention")
        page.wait_for_selector("#query-image[src^='blob:']")
        page.click("#attention")
        page.wait_for_selector(f"#query-image[src$='image/{id}']")


def test_a_phones_width_is_enough(browser, address):
    page = browser.new_page(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    page.goto(f"{address}#id=0")
    found(page)
    page.tap("#filters summary")
    page.wait_for_selector("#cameras", state="visible")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.close()


def test_a_token_is_asked_for_once(page, files):
    server, address = serve(files, token="s3cret")
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
    server.should_exit = True
