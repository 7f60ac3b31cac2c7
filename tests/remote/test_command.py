"""`sentinel scan s3://...` as a process of its own: text, JSON and exit codes as documented."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "sentinel", "scan", *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture
def uploaded(s3, tmp_path) -> str:
    """A run of two kohya files in a bucket, the second with a NaN."""
    for step, value in ((10, 0.01), (20, np.nan)):
        tensors = {
            "lora_unet_q.lora_down.weight": np.linspace(-1, 1, 128, dtype="f4").reshape(4, 32),
            "lora_unet_q.lora_up.weight": np.full((16, 4), value, "f4"),
            "lora_unet_q.alpha": np.array(4, "f4"),
        }
        metadata = {"ss_network_module": "networks.lora", "ss_steps": str(step)}
        path = tmp_path / f"cat-step{step:08d}.safetensors"
        save_file(tensors, path, metadata)
        s3.put(str(path), f"runs/cats/{path.name}")
    return "s3://runs/cats"


def test_a_bucket_in_text_and_json(uploaded, tmp_path) -> None:
    """Each line names the whole address; the code is 1 for what is faulty."""
    told = run(uploaded)
    log = run(uploaded, "--format", "json", "--log", str(tmp_path / "log"))

    lines = told.stdout.splitlines()
    assert lines[0].startswith(f"healthy     {uploaded}/cat-step00000010.safetensors")
    assert lines[1].startswith(f"faulty      {uploaded}/cat-step00000020.safetensors")
    assert (told.returncode, told.stderr) == (1, "")
    report = json.loads(log.stdout)
    assert [one["path"] for one in report["checkpoints"]] == [
        f"{uploaded}/cat-step{step:08d}.safetensors" for step in (10, 20)
    ]
    assert (log.returncode, log.stderr) == (1, "")
    assert len(list((tmp_path / "log").rglob("*.parquet"))) == 5


@pytest.mark.parametrize(("store", "scheme"), [("google", "gs"), ("azure", "az")])
def test_other_stores_say_nothing_beside(store, scheme, request, tmp_path) -> None:
    """Their drivers' warnings, one a call, do not stand between the verdicts."""
    files = request.getfixturevalue(store)
    path = tmp_path / "cat.safetensors"
    save_file({"lora_unet_q.lora_up.weight": np.full((16, 4), np.nan, "f4")}, path)
    files.put(str(path), "runs/cats/cat.safetensors")

    told = run(f"{scheme}://runs/cats")
    missing = run(f"{scheme}://runs/dogs")

    assert told.stdout.startswith(f"faulty      {scheme}://runs/cats/cat.safetensors")
    assert (told.returncode, told.stderr) == (1, "")
    assert missing.returncode == 2
    assert "does not exist; check its spelling" in missing.stderr
    assert len(missing.stderr.splitlines()) == 1


def test_what_cannot_be_read_is_code_2(uploaded) -> None:
    """One line, on standard error, and no traceback."""
    for address, words in (
        ("s3://runs/dogs", "does not exist; check its spelling"),
        ("s3://runs/cats/x.safetensors?versionId=3", "carries a query or a password"),
        ("ftp://host/x", "'ftp' is no known scheme"),
    ):
        ran = run(address)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert words in ran.stderr
        assert len(ran.stderr.splitlines()) == 1
    assert run(uploaded, "--quick", "--headers").returncode == 2


def test_what_is_accepted_at_an_address_stays_accepted(uploaded, tmp_path) -> None:
    """A baseline holds addresses as they are, from whatever directory it is used."""
    baseline = str(tmp_path / "accepted.json")
    assert run(uploaded, "--write-baseline", baseline).returncode == 1

    ran = run(uploaded, "--baseline", baseline)

    assert ran.returncode == 0
    assert f'"{uploaded}/cat-step00000020.safetensors"' in (tmp_path / "accepted.json").read_text()
