"""Writes that were cut short: seen from the bytes, in every container and in every layout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from sentinel.checkpoint import Fault
from sentinel.errors import ChangedWhileReadError, ConfigError
from sentinel.flow import inspect, judge
from sentinel.formats.opening import discover, is_whole, open_checkpoint
from sentinel.rules.load import load_rules

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
TORN = {"truncated-file", "malformed-file"}


def containers(root: Path) -> Iterator[Path]:
    """One small file of every container, by its own library."""
    save_file({"w": np.arange(6, dtype="f4"), "b": np.ones(3, "f2")}, root / "x.safetensors")
    yield root / "x.safetensors"
    np.save(root / "x.npy", np.arange(6.0))
    yield root / "x.npy"
    np.savez(root / "x.npz", a=np.arange(6.0), b=np.ones(3))
    yield root / "x.npz"
    torch = pytest.importorskip("torch")
    value = {"w": torch.arange(6.0), "step": 3}
    torch.save(value, root / "zip.pt")
    yield root / "zip.pt"
    torch.save(value, root / "legacy.pt", _use_new_zipfile_serialization=False)
    yield root / "legacy.pt"


def test_a_file_cut_after_any_byte_is_never_whole(tmp_path):
    """Of every container, at every length: torn or malformed, and nothing that can be used."""
    for path in containers(tmp_path):
        raw = path.read_bytes()
        assert not open_checkpoint(path).faults
        for length in range(len(raw)):
            os.truncate(path, length) if length else path.write_bytes(b"")
            faults = open_checkpoint(path).faults
            assert {fault.rule for fault in faults} <= TORN, (path.name, length)
            assert len(faults) == 1, (path.name, length)
            path.write_bytes(raw)


def test_a_file_zeroed_from_any_byte_of_its_description_on_is_never_whole(tmp_path):
    """A hole where the header, the pickle or the directory was."""
    for path in containers(tmp_path):
        raw = path.read_bytes()
        described = min(tensor.offset for tensor in open_checkpoint(path).tensors)
        # A stream's values follow their count, whose upper bytes are zeros anyway.
        end = len(raw) if path.name in {"x.npz", "zip.pt"} else described - 8
        for begin in range(0, end, 3):
            path.write_bytes(raw[:begin] + bytes(len(raw) - begin))
            # The last bytes of an archive are zeros anyway.
            is_same = path.read_bytes() == raw
            assert is_same or open_checkpoint(path).faults, (path.name, begin)


def indexed(write, weight_map: object, *, name: str = "model.safetensors.index.json") -> Path:
    for shard, key in zip(SHARDS, "ab", strict=True):
        write.file(f"m/{shard}", save({key: np.ones(3, "f4")}))
    write.json("m/config.json", {})
    return write.json(f"m/{name}", {"weight_map": weight_map}).parent


GOOD = {"a": SHARDS[0], "b": SHARDS[1]}
BROKEN = {
    "a shard that is not there": ({**GOOD, "c": "model-00003.safetensors"}, "missing-shard"),
    "a tensor that no shard has": ({**GOOD, "c": SHARDS[0]}, "malformed-file"),
    "a tensor in another shard": ({"a": SHARDS[1], "b": SHARDS[0]}, "malformed-file"),
    "a tensor that is not named": ({"a": SHARDS[0], "c": SHARDS[1]}, "malformed-file"),
    "a shard above": ({**GOOD, "c": "../x.safetensors"}, "malformed-file"),
    "a shard elsewhere": ({**GOOD, "c": "/etc/x.safetensors"}, "malformed-file"),
    "a shard on another disk": ({**GOOD, "c": "C:x.safetensors"}, "malformed-file"),
    "a shard of no name": ({**GOOD, "c": ""}, "malformed-file"),
    "a shard of an endless name": ({**GOOD, "c": "x" * 100_000}, "malformed-file"),
    "a shard with a NUL": ({**GOOD, "c": "x\0.safetensors"}, "malformed-file"),
    "a list": (["a"], "malformed-file"),
    "nothing": ({}, "malformed-file"),
    "numbers": ({"a": 1}, "malformed-file"),
}


@pytest.mark.parametrize(("weight_map", "rule"), BROKEN.values(), ids=BROKEN)
def test_an_index_that_is_not_of_its_shards_is_told(write, weight_map, rule):
    assert not open_checkpoint(indexed(write, GOOD)).faults
    assert [fault.rule for fault in open_checkpoint(indexed(write, weight_map)).faults] == [rule]


def test_shards_that_an_index_does_not_know_are_told(write):
    """A newer shard under the old index holds what nobody would load."""
    path = indexed(write, GOOD)
    write.file(f"m/{SHARDS[1]}", save({"b": np.ones(3, "f4"), "new": np.ones(3, "f4")}))

    (fault,) = open_checkpoint(path).faults
    assert "does not name 1 tensors" in fault.message
    assert "'new'" in fault.message


def test_a_key_twice_in_an_index_is_told(write):
    path = indexed(write, GOOD)
    twice = f'{{"weight_map": {{"a": "{SHARDS[0]}", "a": "{SHARDS[1]}", "b": "{SHARDS[1]}"}}}}'
    (path / "model.safetensors.index.json").write_text(twice)
    assert "occurs twice" in open_checkpoint(path).faults[0].message


def test_thousands_of_missing_files_are_told_in_a_few_sentences(write):
    """And what else is wrong is not lost among them."""
    named = {f"{at}.txt": {"size_bytes": 1} for at in range(2000)}
    path = write.adapter(
        "c", **{"sentinel_manifest.json": {"schema": 2, "step": 1, "files": named}}
    )

    rules = [fault.rule for fault in open_checkpoint(path).faults]
    assert rules.count("missing-shard") == 20
    assert "malformed-file" in rules


FILES = ("adapter_model.safetensors", "adapter_config.json", "trainer_state.json", "optimizer.pt")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_checkpoint_with_a_torn_file_is_never_healthy(write, name, share):
    torch = pytest.importorskip("torch")
    path = write.adapter("checkpoint-5", **{"trainer_state.json": {"global_step": 5}})
    torch.save({"state": {}, "param_groups": []}, path / "optimizer.pt")
    assert judge(path, rules=load_rules()).verdict.level == "healthy"

    raw = (path / name).read_bytes()
    (path / name).write_bytes(raw[: int(len(raw) * share)])

    verdict = judge(path, rules=load_rules()).verdict
    assert verdict.level == "unreadable"
    assert "weights" in verdict.usable or name in FILES[:2]


@pytest.mark.parametrize("header", [b"{}", b'{"__metadata__":{"format":"pt"}}', b"{}" + b" " * 30])
def test_an_adapter_of_forty_bytes_is_not_healthy(write, header):
    """What ZeRO-3 and a full disk leave: a header without tensors."""
    path = write.adapter("c")
    write.file("c/adapter_model.safetensors", len(header).to_bytes(8, "little") + header)
    verdict = judge(path, rules=load_rules()).verdict
    assert verdict.level == "faulty"
    assert "empty-checkpoint" in {finding.rule for finding in verdict.findings}


def test_an_adapter_of_nothing_but_shapes_is_not_healthy(write):
    path = write.adapter("c")
    module = "base_model.model.layers.0.q_proj"
    sides = {
        f"{module}.lora_A.weight": np.zeros(0, "f4"),
        f"{module}.lora_B.weight": np.zeros(0, "f4"),
    }
    write.file("c/adapter_model.safetensors", save(sides))
    verdict = judge(path, rules=load_rules()).verdict
    assert verdict.level != "healthy"
    assert "empty-values" in {finding.rule for finding in verdict.findings}


REWRITER = """
import os, sys
path, good = sys.argv[1], open(sys.argv[1], "rb").read()
print("ready", flush=True)
while True:
    for length in (len(good) - 1, 30, 0, len(good) // 2):
        os.truncate(path, length)
    with open(path, "wb") as file:
        file.write(good)
    os.replace(path, path + ".old")
    os.mkfifo(path)
    os.remove(path)
    os.replace(path + ".old", path)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in directories")
@pytest.mark.timeout(60)
def test_a_file_that_is_rewritten_all_the_time_is_a_value_or_a_fault(write):
    """Another process truncates, replaces and removes it while it is read, pipes in between."""
    path = write.file("x.safetensors", save({"w": np.ones(100_000, "f4")}))
    command = [sys.executable, "-c", REWRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as rewriter:
        try:
            assert rewriter.stdout is not None
            assert rewriter.stdout.readline() == b"ready\n"
            for candidate in (one for _ in range(300) for one in discover(path.parent)):
                is_whole(candidate)
                for fault in open_if_there(candidate.path):
                    assert fault.rule in TORN | {"missing-shard", "unreadable-file"}
        finally:
            rewriter.kill()


def open_if_there(path: Path) -> tuple[Fault, ...]:
    """Read to the end, unless the file is another one by then: whoever asks comes back later."""
    with suppress(ConfigError, ChangedWhileReadError):
        return inspect(path).checkpoint.faults
    return ()


@pytest.fixture
def as_stranger() -> Iterator[Callable[[], None]]:
    """Give our own right to read everything away, until the test is over."""
    if sys.platform == "win32" or os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    yield lambda: os.seteuid(65534)
    os.seteuid(0)


def test_a_base_behind_a_closed_directory_is_a_base_that_is_not_here(write, as_stranger, tmp_path):
    """An adapter names its base wherever it was trained: in another's home, or in no place."""
    closed = tmp_path / "home"
    write.json("home/base/config.json", {})
    closed.chmod(0o700)
    for parent in (tmp_path, *tmp_path.parents):
        parent.chmod(parent.stat().st_mode | 0o055)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
    for at, base in enumerate((closed / "base", "x" * 300, "x/" * 3000, "a\0b", "//host/share")):
        named = {**config, "base_model_name_or_path": str(base)}
        write.adapter(f"{at}", **{"adapter_config.json": named})
    rules = load_rules()
    as_stranger()
    for at in range(5):
        assert judge(tmp_path / f"{at}", rules=rules).verdict.level == "healthy"


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A directory with twelve hundred others, one in the other."""
    root = tmp_path / "deep"
    root.mkdir()
    here = os.open(root, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        here, last = os.open("d", os.O_RDONLY, dir_fd=here), here
        os.close(last)
    os.close(here)
    yield root
    # Python's own way to remove them is a recursion.
    subprocess.run(["rm", "-r", str(root)], check=True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such paths")
def test_what_is_nested_deeper_than_calls_is_walked(deep):
    assert list(discover(deep)) == []


def test_shards_without_their_first_are_sorted_at_once(tmp_path):
    """Each says that a hundred thousand lie before it."""
    for at in range(500):
        (tmp_path / f"m{at}-99999-of-99999.safetensors").touch()
    assert len(list(discover(tmp_path))) == 500


def test_a_number_that_fits_nowhere_is_left_out(write):
    """Found in settings, which become columns of 64 bits."""
    huge = b'{"learning_rate": 1' + b"0" * 400 + b', "lora_dtype": [1, [2]], "optim": {"a": 1}}'
    files = {"trainer_state.json": {"global_step": 5}, "args.json": huge}
    path = write.adapter("checkpoint-5", **files)
    assert judge(path, rules=load_rules()).verdict.level == "healthy"

    backup = "2024-01-01_00-00-00-backup-5-1-0"
    write.file(f"{backup}/lora/lora.safetensors", (path / "adapter_model.safetensors").read_bytes())
    write.json(f"{backup}/meta.json", {"train_progress": {"global_step": 5, "epoch": 1}})
    warmup = {"learning_rate": 1e-4, "learning_rate_warmup_steps": -1e300}
    arguments = {**warmup, "gradient_accumulation_steps": 1}
    made = write.json(f"{backup}/onetrainer_config/args.json", arguments).parents[1]
    judged = judge(made, rules=load_rules())
    assert judged.checkpoint.updates_done is None
    assert json.dumps(judged.verdict.level) != '"unreadable"'


def test_what_is_no_text_can_be_told(write):
    """Half a surrogate pair, as JSON can spell it, where a name is quoted in a message."""
    entry = {"dtype": "\ud800", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"w": entry}).encode()
    manifest = {"schema": "\ud800", "step": 1, "files": {"\udc00": {}}}
    path = write.adapter("c", **{"sentinel_manifest.json": manifest})
    torn = len(header).to_bytes(8, "little") + header + bytes(4)
    write.file("c/adapter_model.safetensors", torn)

    verdict = judge(path, rules=load_rules()).verdict
    assert verdict.level == "unreadable"
    json.dumps([finding.message for finding in verdict.findings]).encode("ascii")
    assert all(finding.message.encode("utf-8") for finding in verdict.findings)
