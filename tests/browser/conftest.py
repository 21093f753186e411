"""The browser, and a server of a small gallery."""

import shutil

import pytest
from PIL import Image
from web_gallery import COLOURS

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytest.importorskip("uvicorn", reason='needs the extra: pip install "vitreid[serve]"')

from browser_page import serving  # noqa: E402

PHONE = {"viewport": {"width": 390, "height": 800}, "is_mobile": True, "has_touch": True}
DESKTOP = {"viewport": {"width": 1200, "height": 800}}


@pytest.fixture(scope="session")
def browser():
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"needs chromium: {error.message.splitlines()[0]}")
        yield browser
        browser.close()


def open_page(browser, **options):
    """Yield a page in the time zone of Berlin; a script error on it fails the test."""
    context = browser.new_context(timezone_id="Europe/Berlin", **options)
    page = context.new_page()
    page.set_default_timeout(30_000)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("filechooser", lambda _: None)  # choosers are caught from now on; asked for later, the key may be quicker
    yield page
    context.close()
    assert not errors


@pytest.fixture
def page(browser):
    yield from open_page(browser, **DESKTOP)


@pytest.fixture
def phone(browser):
    yield from open_page(browser, **PHONE)


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def either(request, browser):
    yield from open_page(browser, **request.param)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    for i, colour in enumerate(COLOURS):
        Image.new("RGB", (32, 64), colour).save(root / f"{i}.png")
    (root / "note.png").write_text("no image")
    return root


@pytest.fixture(scope="module")
def address(files):
    with serving(files) as address:
        yield address
