"""The page as people meet it, in a real Chromium, and as axe-core reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from browsing import IN_A_BROWSER, OPEN_ALL, SIZES, chromium, violations

pytestmark = IN_A_BROWSER


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def address(repaired_page, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(repaired_page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def open_page(browser, address):
    """Open the page; whatever it asks for or complains about is in ``page.said``."""
    contexts = []

    def make(*, size: str = "desk", at: str = address, **options: object):
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.said.append(request.url))
        page.goto(at)
        assert page.said == [at], "it loads itself alone and complains about nothing"
        return page

    yield make
    for context in contexts:
        context.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(open_page, size, scheme):
    """As it opens, and with everything unfolded."""
    page = open_page(size=size, color_scheme=scheme)

    assert violations(page) == []
    page.evaluate(OPEN_ALL)
    assert violations(page) == []


@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wider_than_the_screen(open_page, size):
    """A page is scrolled down, never sideways; no drawing is cut off."""
    page = open_page(size=size)
    page.evaluate(OPEN_ALL)

    width, _height = SIZES[size]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for drawing in page.locator("svg.marks:visible").all():
        box = drawing.bounding_box()
        assert box["x"] >= -4
        assert box["x"] + box["width"] <= width


def test_dark_mode_and_print(open_page):
    """Dark where the system is, light on paper whatever the system is."""
    colours = "getComputedStyle(document.body).backgroundColor"
    mark = "getComputedStyle(document.querySelector('#verdicts svg.marks [fill^=var]')).fill"
    light, dark = open_page(color_scheme="light"), open_page(color_scheme="dark")

    assert light.evaluate(colours) == "rgb(255, 255, 255)"
    assert dark.evaluate(colours) == "rgb(15, 20, 25)"
    assert light.evaluate(mark) != dark.evaluate(mark)
    dark.emulate_media(media="print", color_scheme="dark")
    assert dark.evaluate(colours) == "rgb(255, 255, 255)"
    assert not dark.locator("nav").is_visible()
    assert dark.locator(".panel").count() == dark.locator(".panel:visible").count() > 1


def test_the_keyboard_reaches_everything(open_page):
    """The first stop skips to the report; a fold opens and a map is chosen by keys alone."""
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"

    fold = page.locator("#verdicts summary")
    fold.focus()
    page.keyboard.press("Enter")
    assert page.locator("#verdicts table").is_visible()

    page.locator("#choose-heat-size").focus()
    page.keyboard.press("ArrowRight")
    assert not page.locator("#panel-heat-size").is_visible()
    assert page.locator("#panel-heat-not-finite").is_visible()


def test_a_pointer_is_told_what_a_mark_is(open_page):
    """Over a mark of the strip and over a cell of a map."""
    page = open_page()
    page.locator('#verdicts .wide [aria-label^="Attempt 1, step 30"]').hover()
    assert page.locator(".tip").inner_text().startswith("Attempt 1, step 30: faulty")
    page.locator("#panel-heat-size .wide [data-tip]").first.hover()
    assert "step 10: norm" in page.locator(".tip").inner_text()


def test_without_script(open_page):
    """All sections, drawings and commands are there; only copying by a button is not."""
    page = open_page(java_script_enabled=False)

    assert page.locator("svg.marks:visible").count() == 4
    assert page.locator("section").count() == 7
    assert page.locator("button").count() == 0


def test_a_command_is_copied(run, open_page, tmp_path):
    """The button puts exactly the command into the clipboard."""
    run.judge(run.save(10))
    run.judge(run.save(20, up=float("nan")))
    path = tmp_path / "open.html"
    path.write_text(run.page(), encoding="utf-8")
    page = open_page(at=path.as_uri(), permissions=["clipboard-read", "clipboard-write"])

    page.get_by_role("button", name="Copy: sentinel run").click()

    page.get_by_text("Copied", exact=True).wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "sentinel run -- YOUR USUAL COMMAND"


def test_names_from_files_do_nothing(new_run, write_repair, open_page, tmp_path):
    """Opened in a browser, tags in names of tensors stay text."""
    evil = 'layers.0."><img src=x onerror="document.title=1"><script>document.title=2</script>'
    run = new_run(tmp_path, layers=(evil, "layers.1.q_proj"))
    write_repair(run)
    path = tmp_path / "evil.html"
    path.write_text(run.page(), encoding="utf-8")

    page = open_page(at=path.as_uri())
    page.evaluate(OPEN_ALL)

    assert page.title() == "Repaired: out · Sentinel report"
    assert page.locator("img").count() == 0
    assert violations(page) == []
    run.journal.close()


def test_it_prints(open_page, tmp_path):
    """Some pages of paper, none of them for nothing."""
    page = open_page()

    page.pdf(path=tmp_path / "report.pdf", format="A4")

    data = Path(tmp_path / "report.pdf").read_bytes()
    assert data.startswith(b"%PDF-")
    assert 2 <= data.count(b"/Type /Page\n") <= 12
