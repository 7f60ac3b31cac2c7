"""The real server over a real log, asked by real requests."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import numpy as np
import pytest
from safetensors.numpy import save_file

from daemon.conftest import Bench

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("vl_convert")

TAG = "<script>alert(1)</script>"
"""What a stranger may call a tensor."""

DIRECTORY = "<img src=x onerror=alert(1)>&quot;"
"""What a stranger may call a directory."""

LONG_AGO_S = 1_700_000_000


@dataclass(frozen=True)
class Answer:
    """What the server said; names of headers are in small letters."""

    status: int
    headers: dict[str, str]
    text: str


@dataclass(frozen=True)
class Server:
    """A server that is up; ``process`` is the command's."""

    host: str
    port: int
    process: subprocess.Popen[str]

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}"

    def ask(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        """One request; underscores in names of headers stand for dashes."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=100)
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, headers=told)
            got = connection.getresponse()
            text = got.read().decode()
            names = {name.lower(): value for name, value in got.getheaders()}
            return Answer(got.status, names, text)
        finally:
            connection.close()

    def raw(self, request: bytes) -> bytes:
        """The answer to bytes that are no request a library would send."""
        with socket.create_connection((self.host, self.port), timeout=60) as talking:
            talking.sendall(request)
            told = b""
            while more := talking.recv(65536):
                told += more
        return told

    def stream(self, since: str = "", **headers: str) -> Stream:
        """A stream of news that is open."""
        return Stream(self, since, headers)


class Stream:
    """Server-sent events, read one at a time from a socket."""

    def __init__(self, server: Server, since: str, headers: dict[str, str]) -> None:
        self._socket = socket.create_connection((server.host, server.port), timeout=60)
        told = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
        head = f"GET /live?since={since} HTTP/1.1\r\nHost: localhost\r\n{told}\r\n"
        self._socket.sendall(head.encode())
        self._file = self._socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers = dict(
            line.decode().strip().split(": ", 1) for line in iter(self._file.readline, b"\r\n")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def line(self) -> str:
        """The next line that says something, "" when the stream has ended."""
        while True:
            line = self._file.readline()
            if not line:
                return ""
            text = line.decode().strip()
            if text and not re.fullmatch(r"[0-9a-f]+", text):
                return text

    def event(self) -> dict[str, object]:
        """The next event with its id; comments are passed over."""
        found: dict[str, object] = {}
        while line := self.line():
            name, _, value = line.partition(": ")
            if name == "data":
                return {**found, **json.loads(value)}
            if name:
                found[name] = value
        return found


@contextmanager
def serving(*options: str, **environ: str) -> Iterator[Server]:
    """Start the command on a free port, and kill it afterwards should it still be there."""
    command = [sys.executable, "-m", "sentinel", "ui", "--port", "0", *options]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environ}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            said = ""
            while not (match := re.search(r"http://[^/]+/", said)):
                line = process.stderr.readline()
                assert line, f"the server ended: {said}"
                said += line
            place = urlsplit(match[0])
            yield Server(place.hostname or "", place.port or 0, process)
        finally:
            process.kill()


def adapter(path: Path, *, up: float | None = None, tag: str = "") -> Path:
    """A `checkpoint-N` of Transformers' Trainer; ``up`` fills lora_B."""
    path.mkdir(parents=True)
    step = int(path.name.split("-")[1])
    draw = np.random.default_rng(step)
    tensors = {}
    for layer in range(3):
        module = f"base_model.model.layers.{layer}.q_proj{tag}"
        grown = draw.normal(0, 0.01, (16, 4)) if up is None else np.full((16, 4), up)
        tensors[f"{module}.lora_A.weight"] = draw.uniform(-0.2, 0.2, (4, 32)).astype("f4")
        tensors[f"{module}.lora_B.weight"] = grown.astype("f4")
    save_file(tensors, path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}
    (path / "adapter_config.json").write_text(json.dumps(config))
    log = [{"step": n, "loss": 2 + 1 / n, "learning_rate": 1e-4} for n in range(1, step + 1)]
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": log}))
    for file in path.iterdir():
        os.utime(file, (LONG_AGO_S, LONG_AGO_S))
    return path


def scan(root: Path, log: Path) -> None:
    """Judge what lies there into a log, by the real command."""
    command = [sys.executable, "-m", "sentinel", "scan", str(root), "--log", str(log)]
    done = subprocess.run(command, capture_output=True, timeout=100, check=False, cwd=root)
    assert done.returncode in {0, 1}, done.stderr


def run_ids(log: Path) -> list[str]:
    return sorted(p.name.removeprefix("run_id=") for p in (log / "checkpoints").glob("run_id=*"))


@dataclass(frozen=True)
class Site:
    """A server over a log of three runs: a faulty one, a healthy one, a stranger's."""

    server: Server
    log: Path
    faulty: str
    stranger: str
    secret: Path

    def checkpoints(self, run_id: str) -> list[str]:
        text = self.server.ask(f"/runs/{run_id}").text
        found = re.findall(rf"/runs/{run_id}/checkpoints/([0-9a-f]{{32}})", text)
        return list(dict.fromkeys(found))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("site")
    secret = root / "secret.txt"
    secret.write_text("nobody may read this")
    log = root / "health"
    adapter(root / "bad" / "out" / "checkpoint-20")
    adapter(root / "bad" / "out" / "checkpoint-40", up=np.nan)
    scan(root / "bad", log)
    (faulty,) = run_ids(log)
    adapter(root / DIRECTORY / "checkpoint-20", tag=TAG)
    scan(root / DIRECTORY, log)
    (stranger,) = set(run_ids(log)) - {faulty}
    with serving("--log", str(log)) as server:
        yield Site(server, log, faulty, stranger, secret)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    place = tmp_path / "bench"
    place.mkdir()
    return Bench(place)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start a server of one's own."""
    with ExitStack() as stack:
        yield lambda *options, **environ: stack.enter_context(serving(*options, **environ))
