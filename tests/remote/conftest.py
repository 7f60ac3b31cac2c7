"""Real servers, each in a process of its own: S3 by moto, Google's and Azure's storage by their
emulators; HTTP with ranges and without."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from remote_servers import FileServer
from sentinel.remote.systems import system_of

BUCKET = "runs"
_RUNNING = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")


# The account of Azurite's documentation, the same everywhere.
_AZURITE = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=Eby8vdM02xNOcqFlqUwJPLlm"
    "EtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
    "BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
)


@contextmanager
def _serving(words: Sequence[str], ready: re.Pattern[str]) -> Iterator[re.Match[str]]:
    """Run a server, once it has said that it is ready; gives what matched."""
    server = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )
    lines = iter(server.stdout.readline, "")
    found = next((match for line in lines if (match := ready.search(line))), None)
    assert found is not None, f"{words[0]} ended with {server.wait()}"
    # It writes a line a request, and would wait for ever for somebody to read them.
    reading = threading.Thread(target=server.stdout.read)
    reading.start()
    try:
        yield found
    finally:
        server.terminate()
        server.wait()
        reading.join()


@contextmanager
def _empty_bucket(driver: Callable[..., Any]) -> Iterator[object]:
    """A file system over a bucket that nobody has used, made from what the environment says."""
    system_of.cache_clear()
    files = driver(skip_instance_cache=True, use_listings_cache=False)
    files.mkdir(BUCKET)
    try:
        yield files
    finally:
        files.rm(BUCKET, recursive=True)
        system_of.cache_clear()


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """The address of an S3 server that knows nobody yet."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with _serving(words, _RUNNING) as found:
        yield found[1]


@pytest.fixture(scope="session")
def google_url() -> Iterator[str]:
    """The address of an emulator of Google's storage."""
    pytest.importorskip("gcp_storage_emulator")
    pytest.importorskip("gcsfs")
    port = str(_free_port())
    words = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1"]
    with _serving([*words, "--port", port, "--in-memory"], re.compile("All services started")):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def google(google_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A file system over an empty bucket of Google's."""
    gcsfs = pytest.importorskip("gcsfs")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google_url)
    with _empty_bucket(gcsfs.GCSFileSystem) as files:
        yield files


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """How to reach an Azurite, Azure's own emulator: `npm install -g azurite`."""
    pytest.importorskip("adlfs")
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("no azurite-blob on the path")
    port = str(_free_port())
    place = str(tmp_path_factory.mktemp("azurite"))
    words = [program, "--location", place, "--blobPort", port, "--skipApiVersionCheck"]
    with _serving(words, re.compile("successfully listens")):
        yield _AZURITE.format(port=port)


@pytest.fixture
def azure(azurite: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A file system over an empty container of Azure's."""
    adlfs = pytest.importorskip("adlfs")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite)
    with _empty_bucket(adlfs.AzureBlobFileSystem) as files:
        yield files


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
    with _empty_bucket(s3fs.S3FileSystem) as files:
        yield files


@pytest.fixture
def web(tmp_path: Path) -> Iterator[FileServer]:
    """A web server with ranges over `tmp_path / "web"`."""
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    (tmp_path / "web").mkdir()
    with FileServer(tmp_path / "web") as server:
        yield server
