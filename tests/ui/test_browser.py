"""The live page as people meet it: in a real Chromium, over real runs, beside a real training.

With `PICTURES=DIR` the tests leave their pictures there, which stand in the documentation.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from browsing import IN_A_BROWSER, OPEN_ALL, SIZES, chromium, violations
from daemon.conftest import Bench
from ui.conftest import TAG, serving

pytestmark = IN_A_BROWSER

LIVE_MS = 240_000
"""How long something may take that a training, its daemon, the server and a browser do."""


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as started:
        yield started


@pytest.fixture
def open_page(browser) -> Iterator[Callable[..., object]]:
    """Open a page; what it complains about, and what it asks for elsewhere, is in ``page.said``."""
    contexts = []

    def make(address: str, *, size: str = "desk", **options: object):
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.said = []
        origin = "/".join(address.split("/")[:3])
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on(
            "request",
            lambda asked: None if asked.url.startswith(origin) else page.said.append(asked.url),
        )
        page.goto(address)
        return page

    yield make
    for context in contexts:
        context.close()


def picture(page, name: str, **options: object) -> None:
    """Keep a picture where it is asked for: below 300 kB, or it is none for a page to load."""
    directory = os.environ.get("PICTURES")
    if directory:
        path = Path(directory) / f"{name}.png"
        page.screenshot(path=path, animations="disabled", **options)
        assert path.stat().st_size < 300_000


def places(site) -> dict[str, str]:
    of = f"/runs/{site.faulty}"
    bad, good = site.checkpoints(site.faulty)
    return {
        "runs": "/",
        "run": of,
        "bad checkpoint": f"{of}/checkpoints/{bad}",
        "good checkpoint": f"{of}/checkpoints/{good}",
        "events": "/events",
        "rules": "/rules",
        "rule": "/rules/nan-values",
        "nothing": "/nothing",
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(site, open_page, size, scheme):
    """On no page, light or dark, on a desk or a telephone; and nothing is wider than that."""
    for name, path in places(site).items():
        page = open_page(site.server.address + path, size=size, color_scheme=scheme)
        page.evaluate(OPEN_ALL)

        assert violations(page) == [], name
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= SIZES[size][0], name
        assert [said for said in page.said if "404" not in said] == [], name


def test_a_command_is_copied(site, open_page):
    """The button puts exactly the command into the clipboard."""
    options = {"permissions": ["clipboard-read", "clipboard-write"]}
    page = open_page(f"{site.server.address}/runs/{site.faulty}", **options)

    page.get_by_role("button", name="Copy: sentinel run").first.click()

    page.get_by_text("Copied", exact=True).wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "sentinel run -- YOUR USUAL COMMAND"


def test_tensors_are_sorted_and_filtered_by_keys_alone(site, open_page):
    """Without loading the page anew; the focus stays, and the way back leads back."""
    good = site.checkpoints(site.faulty)[-1]
    page = open_page(f"{site.server.address}/runs/{site.faulty}/checkpoints/{good}")
    page.evaluate("window.stays = true")
    names = page.locator("#tensors tbody th code")

    page.locator("#tensors thead a", has_text="RMS").focus()
    page.keyboard.press("Enter")
    page.locator('#tensors th[aria-sort="descending"]', has_text="RMS").wait_for()
    shown = page.locator("#tensors tbody td:nth-child(7)").all_inner_texts()
    assert [float(one) for one in shown] == sorted(map(float, shown), reverse=True)
    assert "RMS" in page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    page.locator('#tensors th[aria-sort="ascending"]', has_text="RMS").wait_for()

    page.get_by_label("name holds").focus()
    page.keyboard.type("layers.1")
    page.keyboard.press("Enter")
    page.get_by_text("1 to 2 of 2 tensors").wait_for()
    assert all("layers.1" in name for name in names.all_inner_texts())
    assert page.evaluate("document.activeElement.name") == "q"
    page.get_by_label("role").select_option("lora_up")
    page.get_by_text("1 to 1 of 1 tensors").wait_for()
    page.go_back()
    page.get_by_text("1 to 2 of 2 tensors").wait_for()
    assert page.evaluate("window.stays")
    assert "q=layers.1" in page.url


def test_the_keyboard_reaches_the_content(site, open_page):
    """The first stop skips the menu."""
    page = open_page(site.server.address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_without_script_everything_is_there(site, open_page):
    """Forms and links load pages; only news and buttons are missing."""
    page = open_page(site.server.address, java_script_enabled=False)
    page.get_by_label("last verdict").select_option("faulty")
    page.get_by_role("button", name="Show").click()
    page.locator("tr.faulty th a").click()
    assert page.locator("svg.marks:visible").count() >= 3
    page.locator("#checkpoints tbody a").first.click()
    page.locator("#tensors thead a", has_text="largest").click()
    assert page.locator("#tensors [aria-sort]").inner_text().startswith("largest")


def test_names_of_strangers_do_nothing(site, open_page):
    """In a browser they stay text, and the policy has nothing to refuse."""
    (checkpoint,) = site.checkpoints(site.stranger)
    page = open_page(f"{site.server.address}/runs/{site.stranger}/checkpoints/{checkpoint}")
    page.evaluate(OPEN_ALL)

    assert TAG in page.locator("#tensors tbody").inner_text()
    assert page.locator("img").count() == 0
    assert page.said == []


@contextmanager
def supervised(bench: Bench, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The tests' own trainer under `sentinel run`."""
    trainer = bench.trainer(*options)
    arguments = bench.arguments(trainer=trainer)
    # Long enough between fault and repair for a page to show it.
    (bench.place / "sentinel.yaml").write_text("backoff_s: 0.05\ngrace_s: 15.0\n")
    process = bench.start(*arguments)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_a_fault_and_its_repair_appear_by_themselves(bench, open_page):
    """From an empty page to the repaired run, never loaded anew, what was unfolded stays so."""
    with serving("--state", str(bench.state)) as server:
        page = open_page(server.address)
        page.get_by_text("No run yet").wait_for()
        page.evaluate("window.stays = true")
        options = ("--fault", "nan", "--fault-from", "40", "--linger-s", "90", "--stubborn")
        with supervised(bench, *options) as process:
            row = page.locator("table.runs tbody tr")
            row.first.wait_for(timeout=LIVE_MS)
            page.locator("table.runs .tag", has_text="training").wait_for(timeout=LIVE_MS)
            run = open_page(server.address + row.locator("a").first.get_attribute("href"))
            run.evaluate("window.stays = true")
            state = run.locator(".state")
            state.get_by_text("Faulty.").wait_for(timeout=LIVE_MS)
            run.locator("#verdicts summary").click()
            state.get_by_text("Repaired.").wait_for(timeout=LIVE_MS)
            assert run.locator("#verdicts details").evaluate("one => one.open")
            assert process.wait(timeout=100) == 0
        run.get_by_text("the trainer ended with code 0").first.wait_for(timeout=LIVE_MS)
        assert run.evaluate("window.stays")
        assert page.evaluate("window.stays")
        assert run.title().startswith("Repaired: ")
        page.locator("tr.healthy").wait_for(timeout=LIVE_MS)
        assert run.said == []


def test_a_server_that_comes_back_is_found_again(site, open_page):
    """The page says that it lost the server, and says when it is back."""
    with serving("--log", str(site.log)) as server:
        page = open_page(server.address)
        page.locator("#live.on").wait_for()
        server.process.terminate()
        page.locator("#live.off").wait_for()
    again = serving("--log", str(site.log), "--port", str(server.port))
    with again:
        page.locator("#live.on").wait_for(timeout=60_000)


@pytest.mark.skipif("PICTURES" not in os.environ, reason="PICTURES names no directory")
@pytest.mark.timeout(1500)
def test_pictures_of_the_demo(open_page, tmp_path):
    """The demo's run while it trains, and when it is repaired; PICTURES_STATE has one already."""
    pytest.importorskip("bitsandbytes")
    given = os.environ.get("PICTURES_STATE")
    state = Path(given) if given else tmp_path / "demo" / "state"
    if not given:
        command = [sys.executable, "-m", "sentinel", "demo", "--dir", str(tmp_path / "demo")]
        subprocess.run(command, check=True, capture_output=True, timeout=1400)
    with serving("--state", str(state)) as server:
        page = open_page(server.address)
        runs = dict(
            zip(
                page.locator("table.runs tbody th a").all_inner_texts(),
                [one.get_attribute("href") for one in page.locator("table.runs th a").all()],
                strict=True,
            )
        )
        page.set_viewport_size({"width": 1180, "height": 420})
        page.locator("#live.on").wait_for()
        picture(page, "ui-runs")
        page = open_page(server.address + runs["demo-nan"])
        page.set_viewport_size({"width": 1180, "height": 1000})
        page.locator("#live.on").wait_for()
        picture(page, "ui-run")
        bad = page.locator("#checkpoints tr", has_text="faulty").first.locator("a")
        faulty = server.address + bad.get_attribute("href")
        dark = open_page(server.address + runs["demo-nan"], color_scheme="dark")
        dark.set_viewport_size({"width": 1180, "height": 1000})
        dark.locator("#live.on").wait_for()
        picture(dark, "ui-run-dark")
        first = open_page(faulty, reduced_motion="reduce")
        first.get_by_role("link", name="The one before").click()
        first.wait_for_load_state()
        first.get_by_role("link", name="The one before").click()
        first.wait_for_load_state()
        first.locator("#magnitudes").scroll_into_view_if_needed()
        first.locator("#tensors thead a", has_text="‖scale").click()
        first.locator('#tensors [aria-sort="descending"]').wait_for()
        first.set_viewport_size({"width": 1180, "height": 1000})
        first.evaluate("document.querySelector('#magnitudes').scrollIntoView()")
        picture(first, "ui-checkpoint")
        phone = open_page(server.address + runs["demo-nan"], size="telephone")
        phone.locator("#live.on").wait_for()
        picture(phone, "ui-telephone")
