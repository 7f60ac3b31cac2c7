"""Real servers: S3 by moto in a process of its own, HTTP with ranges and without."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_servers import FileServer
from sentinel.remote.systems import system_of

BUCKET = "runs"
_RUNNING = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """The address of an S3 server that knows nobody yet."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = iter(server.stderr.readline, "")
    found = next(match for line in lines if (match := _RUNNING.search(line)))
    # It writes a line a request, and would wait for ever for somebody to read them.
    reading = threading.Thread(target=server.stderr.read)
    reading.start()
    try:
        yield found[1]
    finally:
        server.terminate()
        server.wait()
        reading.join()


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A file system over an empty bucket; credentials and endpoint stand in the environment."""
    s3fs = pytest.importorskip("s3fs")
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_url,
    }.items():
        monkeypatch.setenv(name, value)
    system_of.cache_clear()
    files = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    files.mkdir(BUCKET)
    try:
        yield files
    finally:
        files.rm(BUCKET, recursive=True)
        system_of.cache_clear()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[FileServer]:
    """A web server with ranges over `tmp_path / "web"`."""
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    (tmp_path / "web").mkdir()
    with FileServer(tmp_path / "web") as server:
        yield server
