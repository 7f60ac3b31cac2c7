"""`sentinel report`: which run, into which file, and never over somebody's own."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("vl_convert")


@pytest.fixture
def log(here, scanned):  # noqa: ARG001 - only the last chdir counts
    """The log of a scan of a directory with one checkpoint of each verdict."""
    return scanned / "log"


def title(page: str) -> str:
    return page.split("<title>")[1].split("</title>", maxsplit=1)[0]


def test_a_directory_that_was_scanned_with_a_log(sentinel, log, here):
    """The run whose checkpoints lie there; the file is told on standard error."""
    ran = sentinel("report", log.parent / "out", "--log", log)

    assert (ran.code, ran.out) == (0, "")
    assert "is in 'report.html'" in ran.err
    page = (here / "report.html").read_text(encoding="utf-8")
    assert title(page) == "Faulty: out · Sentinel report"
    assert "nan-values" in page


def test_the_newest_run_without_a_name(sentinel, log, here):
    """What was judged last, as standard output where that is asked for."""
    last = sentinel(
        "log", "--log", log, "--format", "csv", "--sql",
        "SELECT run_id FROM checkpoints ORDER BY judged_at DESC, run_id LIMIT 1",
    ).out.split()[1]  # fmt: skip

    ran = sentinel("report", "--log", log, "-o", "-")

    assert ran.code == 0
    assert last in ran.out
    assert ran.out.startswith("<!doctype html>")
    assert not (here / "report.html").exists()


def test_a_former_report_is_replaced_and_nothing_else(sentinel, log, here):
    """A file of that name that is no report stays, unless --force is given."""
    page = here / "page.html"
    page.write_text("<p>mine</p>")
    refused = sentinel("report", "--log", log, "-o", page)

    assert (refused.code, page.read_text()) == (2, "<p>mine</p>")
    assert "is there already and is no report of sentinel" in refused.err

    assert sentinel("report", "--log", log, "-o", page, "--force").code == 0
    assert sentinel("report", "--log", log, "-o", page).code == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_figures_as_files(sentinel, log, here):
    """Each chart as SVG and PNG, with concrete colours."""
    ran = sentinel("report", log.parent / "out", "--log", log, "--figures", "pictures")

    names = sorted(path.name for path in (here / "pictures").iterdir())
    assert ran.code == 0
    for name in ("verdicts", "loss", "heat-size", "ranges"):
        assert {f"{name}.svg", f"{name}.png"} <= set(names)
    assert "var(" not in (here / "pictures" / "loss.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "run 'nowhere': is not in the health log"),
        (("-o", "."), "'.': is a directory"),
        (("-o", "file/page.html"), "cannot be written"),
    ],
)
def test_a_mistake_is_one_line(sentinel, log, here, arguments, said):
    """Exit code 2, and what to do."""
    (here / "file").write_text("")

    ran = sentinel("report", "--log", log, *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_an_empty_log(sentinel, here):
    """Who asks too early is told what writes one, and nothing is made."""
    ran = sentinel("report", "--log", "nothing")

    assert ran.code == 2
    assert "holds no run yet" in ran.err
    assert not list(here.iterdir())


@pytest.mark.parametrize("missing", ["jinja2", "vl_convert"])
def test_without_the_extra(sentinel, log, here, monkeypatch, missing):
    """One sentence with the command that installs it."""
    monkeypatch.setitem(sys.modules, missing, None)

    ran = sentinel("report", "--log", log)

    assert ran.code == 2
    assert "is not installed; run `pip install 'checkpoint-sentinel[report]'`" in ran.err
    assert not (here / "report.html").exists()
