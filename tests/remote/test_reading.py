"""How much is asked of a server, and what becomes of its refusals: counted on real servers."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import sentinel
from remote_servers import FileServer
from sentinel.errors import ChangedWhileReadError, ConfigError, InputError
from sentinel.flow import Judgement
from sentinel.remote import systems
from sentinel.remote.paths import place_of
from sentinel.remote.ranges import MOST_BYTES
from sentinel.rules.load import load_rules
from sentinel.stats.reading import MemberFile

RULES = load_rules()
GIB = 1 << 30


def scan(address: str, **how: object) -> Judgement:
    (found,) = sentinel.scan(address, rules=RULES, settle_s=0, **how)
    return found


def large(path: Path, size_bytes: int, count: int = 100) -> None:
    """A safetensors file of holes: its header is whole, its values were never written."""
    each = size_bytes // count // 2 * 2
    header = {
        f"model.layers.{n}.mlp.up_proj.weight": {
            "dtype": "BF16",
            "shape": [each // 2],
            "data_offsets": [n * each, (n + 1) * each],
        }
        for n in range(count)
    }
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + each * count)


def small(path: Path, fill: float = 0.01) -> None:
    draw = np.random.default_rng(1)
    save_file(
        {
            "base_model.model.q_proj.lora_A.weight": draw.normal(0, 1, (8, 4096)).astype("f4"),
            "base_model.model.q_proj.lora_B.weight": np.full((4096, 8), fill, "f4"),
        },
        path,
    )


def test_headers_of_14_gb_are_read_alone(web: FileServer, tmp_path) -> None:
    """Of a checkpoint of 14 GB less than a megabyte comes over the wire, and nothing is healthy."""
    large(tmp_path / "web" / "model.safetensors", 14 * GIB)

    found = scan(f"{web.url}/model.safetensors", depth="headers")

    assert len(found.checkpoint.tensors) == 100
    assert web.sent_bytes < 1_000_000
    assert found.verdict.level == "suspect"
    assert "unmeasured-values" in {one.rule for one in found.verdict.findings}
    assert found.verdict.usable == ()


def test_values_come_in_large_ranges_and_bounded_memory(web: FileServer, tmp_path) -> None:
    """256 MiB take some twenty requests, little is asked for twice, memory stays a few windows."""
    size = 256 * 1024 * 1024
    large(tmp_path / "web" / "lora.safetensors", size, count=2)
    scan(f"{web.url}/lora.safetensors", depth="headers")
    web.requests.clear()
    web.sent_bytes = 0

    tracemalloc.start()
    try:
        scan(f"{web.url}/lora.safetensors", digest=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size <= web.sent_bytes < 1.2 * size
    assert sum(request.startswith("GET") for request in web.requests) < 60
    assert peak < 4 * MOST_BYTES


def test_a_server_without_ranges_is_said(web: FileServer, tmp_path) -> None:
    """What would have to be copied whole is not, and the sentence says what to do."""
    web.ranges = False
    large(tmp_path / "web" / "lora.safetensors", 64 * 1024 * 1024)

    found = scan(f"{web.url}/lora.safetensors")

    assert found.verdict.level == "unreadable"
    assert "gives no parts of a file" in found.verdict.reason
    assert web.sent_bytes < 48 * 1024 * 1024


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "access is denied"), (401, "access is denied"), (500, "answers with 500")],
)
def test_a_refusal_is_one_sentence(web: FileServer, status: int, words: str) -> None:
    web.refuses = status

    with pytest.raises(InputError, match=words):
        scan(f"{web.url}/lora.safetensors")


def test_a_server_that_is_not_there(web: FileServer, tmp_path) -> None:
    with FileServer(tmp_path) as gone:
        pass

    assert gone.url != web.url
    with pytest.raises(InputError, match="cannot be reached"):
        scan(f"{gone.url}/lora.safetensors")


def test_a_server_that_does_not_answer(web: FileServer, monkeypatch) -> None:
    """Waiting has an end, also for one that accepts the call and is silent."""
    monkeypatch.setattr(systems, "READ_S", 0.2)
    systems.system_of.cache_clear()
    web.hangs = True
    try:
        with pytest.raises(InputError, match="no answer in time"):
            scan(f"{web.url}/lora.safetensors")
    finally:
        systems.system_of.cache_clear()


def test_a_file_written_anew_while_it_is_read(web: FileServer, tmp_path) -> None:
    """Numbers of two versions are nobody's: it is read again, and the last one is judged."""
    path = tmp_path / "web" / "lora.safetensors"
    small(path, fill=0.02)
    os.utime(path, (1, 1))
    begun = []

    def rewritten(_path: str) -> None:
        begun.append(None)
        if len(begun) == 6:
            small(path, fill=np.nan)

    web.before = rewritten

    found = scan(f"{web.url}/lora.safetensors")

    assert found.verdict.level == "faulty"
    assert "nan-values" in {one.rule for one in found.verdict.findings}


def test_s3_says_that_an_object_is_another_one(s3, tmp_path) -> None:
    """What was opened keeps its ETag: after a new upload reading ends, with a sentence."""
    small(tmp_path / "lora.safetensors")
    s3.put(str(tmp_path / "lora.safetensors"), "runs/lora.safetensors")
    with MemberFile(place_of("s3://runs/lora.safetensors")) as file:
        file.read(0, 16)
        small(tmp_path / "lora.safetensors", fill=0.5)
        s3.put(str(tmp_path / "lora.safetensors"), "runs/lora.safetensors")

        with pytest.raises(ChangedWhileReadError, match="written anew while it was read"):
            file.read(200_000, 16)


@pytest.mark.usefixtures("s3")
def test_s3_without_the_right_to_read(monkeypatch, tmp_path) -> None:
    """A bucket that is not there and a server that knows nobody are told apart."""
    with pytest.raises(ConfigError, match="does not exist"):
        scan("s3://other/lora.safetensors")

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    systems.system_of.cache_clear()
    with pytest.raises(InputError, match="no credentials"):
        scan("s3://runs/lora.safetensors")


def test_a_listing_leads_nowhere_else(web: FileServer, tmp_path) -> None:
    """A page of links that names its parent, another host or itself is no way out or round."""
    inside = tmp_path / "web" / "run"
    inside.mkdir()
    small(inside / "lora.safetensors")
    links = ("..", "../", "./", ".", "%2e%2e/", "//other/x.safetensors", "http://other/y/", "?a")
    page = "".join(f'<a href="{link}">x</a>' for link in (*links, "lora.safetensors"))
    (inside / "index.html").write_text(page, encoding="utf-8")

    found = sentinel.scan(f"{web.url}/run", rules=RULES, settle_s=0)

    assert [str(one.checkpoint.path) for one in found] == [f"{web.url}/run/lora.safetensors"]
    assert all(" /run" in request for request in web.requests)
