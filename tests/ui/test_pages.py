"""What the pages say of a real log, and what they never say."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from ui.conftest import TAG

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def test_all_runs_are_listed_the_newest_first(site):
    """With verdict, step, number of checkpoints, and a link to each."""
    text = site.server.ask("/").text

    assert text.index(site.stranger) < text.index(site.faulty)
    row = re.search(rf'<tr class="faulty">(?:(?!</tr>).)*{site.faulty}.*?</tr>', text, re.DOTALL)
    assert row is not None
    assert "hold NaN" in row[0]
    assert '<td class="number" data-label="step">40</td>' in row[0]


def test_runs_are_filtered_and_nothing_is_said_to_be_nothing(site):
    """By the last verdict and by words of place or trainer."""
    assert site.faulty in site.server.ask("/?verdict=faulty").text
    assert site.stranger not in site.server.ask("/?verdict=faulty").text
    assert "No run is like that" in site.server.ask("/?q=no-such-place").text
    assert site.server.ask("/?page=99999999999999&sort=x&verdict=x&q=%00").status == 200


def test_a_run_shows_what_the_report_shows(site):
    """The same state, charts and sentences, with the commands to copy."""
    text = site.server.ask(f"/runs/{site.faulty}").text

    assert "<strong>Faulty.</strong>" in text
    assert 'aria-label="Verdict of each checkpoint over the steps' in text
    assert 'aria-label="Loss over the steps' in text
    assert "sentinel run -- YOUR USUAL COMMAND" in text
    assert 'href="/rules/nan-values"' in text


def test_a_checkpoint_shows_its_findings_and_tensors(site):
    """Each with its own; the tensors are sorted and filtered by the server."""
    bad, good = site.checkpoints(site.faulty)
    of = f"/runs/{site.faulty}/checkpoints"
    faulty, healthy = site.server.ask(f"{of}/{bad}").text, site.server.ask(f"{of}/{good}").text

    assert "nan-values" in faulty
    assert "No rule fired" in healthy or "nan-values" not in healthy
    assert "How many tensors have which magnitude" in healthy
    names = re.compile(r'<th scope="row"><code>(.*?)</code>')
    ups = site.server.ask(f"{of}/{good}?q=LORA_b&sort=tensor&order=desc").text
    found = [name.replace("<wbr>", "") for name in names.findall(ups) if "lora_" in name]
    assert found == [f"base_model.model.layers.{n}.q_proj.lora_B.weight" for n in (2, 1, 0)]
    assert 'aria-sort="descending"' in ups
    broken = site.server.ask(f"{of}/{bad}?state=not+finite").text
    assert "1 to 3 of 3 tensors" in broken


def test_a_question_that_is_no_sql_stays_a_question(site):
    """What is asked is data: quotes and semicolons find nothing and break nothing."""
    good = site.checkpoints(site.faulty)[-1]
    words = quote("'; DROP TABLE tensors; --")
    for path in ("/", "/events", "/rules", f"/runs/{site.faulty}/checkpoints/{good}"):
        answer = site.server.ask(f"{path}?q={words}&sort={words}&order={words}&run={words}")
        assert answer.status == 200
        assert "&#39;; DROP TABLE tensors; --" in answer.text


def test_names_of_strangers_are_text(site):
    """A tensor and a directory that are called like HTML are shown, never obeyed."""
    (checkpoint,) = site.checkpoints(site.stranger)
    pages = ["/", f"/runs/{site.stranger}", f"/runs/{site.stranger}/checkpoints/{checkpoint}"]
    for path in pages:
        text = site.server.ask(path).text
        assert TAG not in text
        assert "<img src=x" not in text
        assert "&lt;img src=x" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in site.server.ask(pages[-1]).text


@pytest.mark.parametrize("path", ["/", "RUN", "CHECKPOINT", "/events", "/rules/nan-values"])
def test_a_page_holds_no_script_and_no_style_of_its_own(site, path):
    """The content security policy would not let them."""
    of = f"/runs/{site.faulty}"
    place = {"RUN": of, "CHECKPOINT": f"{of}/checkpoints/{site.checkpoints(site.faulty)[0]}"}
    text = site.server.ask(place.get(path, path)).text

    assert not re.search(r"<script(?! src=\"/static/)", text)
    assert not re.search(r"<style|<[^>]*\s(?:style|on\w+)=", text)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//(?!.*rel=\"noreferrer\")", text)


@pytest.mark.parametrize(
    "name",
    ["..", "../secret.txt", "..%2fsecret.txt", "%2e%2e%2fsecret.txt", "..%252fsecret.txt",
     "%00", "x%00.txt", "....//secret.txt", "%5c..%5csecret.txt", "/etc/passwd", "%ff%fe",
     "run_id=x", "*", "%25", "a" * 5000, UNKNOWN, f"{UNKNOWN}/../.."],
)  # fmt: skip
@pytest.mark.parametrize("place", ["/runs/", "/runs/RUN/checkpoints/", "/rules/", "/static/", "/"])
def test_a_name_that_is_not_in_the_log_is_not_looked_for(site, place, name):
    """It is a page of one sentence: no file of that name is read, no traceback shown."""
    path = place.replace("RUN", site.faulty) + name
    told = site.server.raw(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    ).decode("utf-8", "replace")

    status = int(told.split()[1])
    assert status in {400, 404} or (status == 200 and place + name in {"/..", "/"})
    assert "nobody may read this" not in told
    assert "root:" not in told
    assert "Traceback" not in told


def test_an_error_is_a_sentence_with_what_to_do(site):
    """And stays the page's own: with its menu."""
    answer = site.server.ask(f"/runs/{UNKNOWN}")

    assert answer.status == 404
    assert f"run &#39;{UNKNOWN}&#39;: is not in the health log; see the list of all runs." in (
        answer.text
    )


def test_a_page_sends_only_the_parts_that_are_not_had(site):
    """By their versions: of a page that did not change nothing is sent."""
    whole = site.server.ask("/").text
    had = dict(re.findall(r'data-part="(\w+)" data-version="(\w+)"', whole))
    told = ",".join(f"{name}={version}" for name, version in had.items())

    assert set(had) == {"controls", "runs"}
    assert site.server.ask("/", Sentinel_Have=told).text.strip() == ""
    other = site.server.ask("/?verdict=faulty", Sentinel_Have=told).text
    assert 'data-part="runs"' in other
    assert site.server.ask("/", Sentinel_Have="runs=0,,=,%").text.count("data-part=") == 2


def test_a_table_is_sent_by_itself(site):
    """Turned to its next page or sorted, a table does not need the page around it."""
    good = site.checkpoints(site.faulty)[-1]
    of = f"/runs/{site.faulty}"
    for path, part in ((of, "checkpoints"), (f"{of}/checkpoints/{good}?sort=rms", "tensors")):
        text = site.server.ask(path, Sentinel_Have="", Sentinel_Only=part).text
        assert text.count("data-part=") == 1
        assert f'id="{part}"' in text
        assert site.server.ask(path, Sentinel_Have="").text.count("data-part=") > 3


def test_a_rule_has_its_page(site):
    """With what, why, what to change and its SQL."""
    text = site.server.ask("/rules/nan-values").text

    for words in ("What it finds", "Why that matters", "What to change", "WHEN"):
        assert words in text
