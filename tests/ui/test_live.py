"""News: what a stream tells, when, to how many, and how it ends."""

from __future__ import annotations

import re
import signal
import time

import pytest

from sentinel.ui.news import MOST_STREAMS
from sentinel.ui.watching import Watch
from ui.conftest import adapter, run_ids, scan


@pytest.fixture
def training(tmp_path):
    """A run in a log, to which more can be added."""
    log = tmp_path / "health"
    adapter(tmp_path / "out" / "checkpoint-20")
    scan(tmp_path / "out", log)
    return log, tmp_path / "out"


def since_of(text: str) -> str:
    found = re.search(r'data-since="([^"]+)"', text)
    assert found is not None
    return found[1]


def test_a_new_checkpoint_is_told_and_then_shown(training, serve):
    """The stream names the run; its page, asked again, has the parts that changed."""
    log, out = training
    server = serve("--log", str(log))
    (run_id,) = run_ids(log)
    before = server.ask(f"/runs/{run_id}").text
    had = ",".join(
        f"{name}={version}"
        for name, version in re.findall(r'data-part="(\w+)" data-version="(\w+)"', before)
    )

    with server.stream(since_of(before)) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        adapter(out / "checkpoint-40")
        scan(out, log)
        told = stream.event()
        while "checkpoint-40" not in (
            news := server.ask(f"/runs/{run_id}", Sentinel_Have=had).text
        ):
            stream.event()

    assert told["event"] == "changed"
    assert told["runs"] == [run_id]
    parts = set(re.findall(r'data-part="(\w+)"', news))
    assert {"head", "verdicts", "checkpoints"} <= parts
    assert "repairs" not in parts


def test_what_was_missed_is_told_on_the_way_back(training, serve):
    """By the id of the last event; another server's id means that anything may have changed."""
    log, out = training
    server = serve("--log", str(log))
    begin = since_of(server.ask("/").text)
    with server.stream(begin) as stream:
        adapter(out / "checkpoint-40")
        scan(out, log)
        last = str(stream.event()["id"])

    with server.stream("", Last_Event_ID=begin) as stream:
        assert stream.event()["runs"] == run_ids(log)
    with server.stream("deadbeef-7") as stream:
        assert stream.event()["runs"] is None
    with server.stream(last, Last_Event_ID="deadbeef-1") as stream:
        assert stream.event()["runs"] is None


def test_a_stream_that_is_closed_makes_room(site):
    """So many may be open and no more; when their browsers go, others may come."""
    since = since_of(site.server.ask("/").text)
    streams = [site.server.stream(since) for _ in range(MOST_STREAMS)]
    try:
        assert {stream.status for stream in streams} == {200}
        with site.server.stream(since) as refused:
            assert refused.status == 503
    finally:
        for stream in streams:
            stream.__exit__()
    deadline = time.monotonic() + 60
    while (again := site.server.stream(since)).status != 200:
        again.__exit__()
        assert time.monotonic() < deadline
    again.__exit__()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_ends_at_once_with_streams_open(training, serve, number):
    """Each stream ends in order, and the command with code 0."""
    server = serve("--log", str(training[0]))
    with server.stream(since_of(server.ask("/").text)) as one, server.stream() as other:
        assert one.line() == ": here"
        server.process.send_signal(number)

        assert server.process.wait(timeout=60) == 0
        while other.line():
            pass
        assert one.line() == ""


def test_a_log_that_is_not_there_yet_is_waited_for(tmp_path, serve):
    """The page says so, and hears of the first checkpoint."""
    log = tmp_path / "health"
    server = serve("--log", str(log))
    text = server.ask("/").text
    assert "No run yet" in text

    with server.stream(since_of(text)) as stream:
        adapter(tmp_path / "out" / "checkpoint-20")
        scan(tmp_path / "out", log)
        assert stream.event()["runs"] == run_ids(log)
    assert "checkpoint-20" in server.ask(f"/runs/{run_ids(log)[0]}").text


def test_a_change_at_the_moment_of_looking_is_named_again(tmp_path):
    """Two parts within a tick of the file system's clock leave one time; a third look is calm."""
    place = tmp_path / "checkpoints" / "run_id=a"
    place.mkdir(parents=True)
    watch = Watch(tmp_path)

    assert watch.changed() == {"a"}
    assert watch.changed() == frozenset()
    (place / "x.parquet").touch()
    assert watch.changed() == {"a"}
    assert watch.changed() == {"a"}
    assert watch.changed() == frozenset()
