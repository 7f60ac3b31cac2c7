"""A model in GGUF: whole, split, packed, damaged, and still being written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sentinel
from sentinel.checkpoint import Checkpoint
from sentinel.formats.opening import (
    candidate_at,
    discover,
    is_complete,
    is_whole,
    open_checkpoint,
    stat_members,
)
from sentinel.stats.comparison import compare


def rules(path: Path) -> dict[str, str]:
    (judgement,) = sentinel.scan(path, settle_s=0)
    return {found.rule: found.message for found in judgement.verdict.findings}


def faults(checkpoint: Checkpoint) -> dict[str, str]:
    return {fault.rule: fault.message for fault in checkpoint.faults}


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_1"])
def test_a_model_is_understood_and_healthy(writing, weights, kind: str) -> None:
    path = writing.model("m.gguf", weights, kind=kind)

    found = open_checkpoint(path)

    assert (found.layout, found.complete, found.faults) == ("gguf", None, ())
    assert {one.name: one.shape for one in found.tensors} == {
        name: values.shape for name, values in weights.items()
    }
    assert {one.dtype for one in found.tensors} == {kind, "F32"}
    assert found.settings["model.architecture"] == "llama"
    assert found.settings["gguf.version"] == 3
    assert rules(path) == {}


def test_values_are_measured_like_any_others(writing, weights) -> None:
    weights["blk.1.attn_q.weight"][3, :5] = [np.nan, np.nan, np.inf, 0, -2.5]
    path = writing.model("m.gguf", weights)
    (judgement,) = sentinel.scan(path, settle_s=0)
    rows = {row["tensor"]: row for row in judgement.measured.tensors.to_pylist()}

    row = rows["blk.1.attn_q.weight"]
    assert (row["nan_count"], row["inf_count"], row["zero_count"]) == (2, 1, 1)
    values = weights["blk.0.attn_q.weight"].astype("f4").astype("f8")
    assert rows["blk.0.attn_q.weight"]["l2"] == pytest.approx(np.linalg.norm(values))


def test_a_nan_in_a_packed_weight_is_told(writing, weights) -> None:
    """It hides in the scale of its block, and the whole block is lost."""
    weights["blk.1.attn_q.weight"][3, 7] = np.nan
    with np.errstate(all="ignore"):
        path = writing.model("m.gguf", weights, kind="Q8_0")

    found = rules(path)

    assert found.keys() == {"nan-values"}
    assert "1 of 10 tensors hold NaN in this checkpoint, 32 in all" in found["nan-values"]
    assert "'blk.1.attn_q.weight' (Q8_0): this file was converted" in found["nan-values"]


def test_an_overflow_of_a_scale_is_told(writing, weights) -> None:
    weights["blk.1.attn_q.weight"][3, 7] = 1e8
    with np.errstate(all="ignore"):
        path = writing.model("m.gguf", weights, kind="Q4_0")

    assert "32 in all" in rules(path)["inf-values"]


@pytest.mark.parametrize("order", ["LITTLE", "BIG"])
def test_scales_are_read_in_the_order_of_the_file(writing, order: str) -> None:
    """As gguf_convert_endian.py turns them: the halves, never the codes."""
    packed = writing.gguf.quants.quantize(np.eye(64, dtype="f4"), 2).reshape(-1, 18).copy()
    packed[5, :2] = [0x00, 0x7E]
    if order == "BIG":
        packed[:, :2] = packed[:, 1::-1]
    writer = writing.gguf.GGUFWriter(
        writing.root / "m.gguf", "llama", endianess=writing.gguf.GGUFEndian[order]
    )
    writer.add_tensor("w", packed.reshape(64, -1), raw_dtype=2)
    path = writing.finish(writer)

    (judgement,) = sentinel.scan(path, settle_s=0)

    (row,) = judgement.measured.tensors.to_pylist()
    assert (row["nan_count"], row["inf_count"]) == (32, 0)


def test_many_blocks_are_read_in_pieces(writing) -> None:
    """A tensor longer than the buffer, whose size is no multiple of a block's."""
    values = np.random.default_rng(1).standard_normal((600, 1024))
    values[[0, 299, 599], 1000] = np.nan
    with np.errstate(all="ignore"):
        path = writing.model("m.gguf", {"w.weight": values}, kind="Q5_1")
    assert path.stat().st_size > 2 * 192 * 1024

    (judgement,) = sentinel.scan(path, settle_s=0)

    assert judgement.measured.tensors["nan_count"].to_pylist() == [96]


def test_a_split_model_is_one_checkpoint(writing, weights) -> None:
    first = writing.model("m.gguf", weights, kind="Q8_0", split=3)

    (candidate,) = discover(writing.root)
    found = open_checkpoint(first)

    assert first.name == "m-00001-of-00004.gguf"
    assert candidate.path == first
    assert Path(candidate.group) == writing.root / "m"
    assert [one.path for one in found.members] == [
        f"m-0000{number}-of-00004.gguf" for number in range(1, 5)
    ]
    assert {one.name for one in found.tensors} == weights.keys()
    assert found.settings["model.name"] == "Tiny"
    assert rules(first) == {}
    later = open_checkpoint(writing.root / "m-00003-of-00004.gguf")
    assert later.tensors == found.tensors


def test_a_missing_part_is_told(writing, weights) -> None:
    first = writing.model("m.gguf", weights, split=3)
    (writing.root / "m-00003-of-00004.gguf").unlink()

    (judgement,) = sentinel.scan(writing.root, settle_s=0)

    assert judgement.verdict.level == "unreadable"
    assert (
        "'" + str(writing.root / "m-00003-of-00004.gguf") + "': is not there"
        in (rules(first)["missing-shard"])
    )
    first.unlink()
    assert [one.path.name for one in discover(writing.root)] == ["m-00002-of-00004.gguf"]


def test_parts_of_different_models_are_told(writing, weights) -> None:
    writing.model("m.gguf", weights, split=3)
    fewer = dict(list(weights.items())[:-2])
    fewer["extra.weight"] = np.ones((2, 2))
    writing.model("other.gguf", fewer, split=3)
    last = writing.root / "m-00003-of-00004.gguf"
    last.write_bytes((writing.root / "other-00003-of-00003.gguf").read_bytes())

    told = faults(open_checkpoint(writing.root / "m-00001-of-00004.gguf"))

    assert "its name says 4 parts, its metadata 3" in told["malformed-file"]


def test_a_part_under_another_name_is_told(writing, weights) -> None:
    first = writing.model("m.gguf", weights, split=3)
    lone = first.rename(writing.root / "renamed.gguf")

    told = faults(open_checkpoint(lone))

    assert "is one of 4 parts, and its name does not tell the others" in told["missing-shard"]


def test_a_lost_tensor_is_told(writing, weights) -> None:
    """Every part is whole, and together they hold fewer tensors than the first one says."""
    first = writing.model("m.gguf", weights, split=3)
    raw = bytearray(first.read_bytes())
    at = raw.index(b"split.tensors.count") + len(b"split.tensors.count") + 4
    raw[at] += 1
    first.write_bytes(raw)

    told = faults(open_checkpoint(first))

    assert "its parts hold 10 tensors, its metadata say 11" in told["malformed-file"]


def test_a_file_that_is_written_is_not_whole(writing, weights) -> None:
    """At every length up to the last tensor's end, so that a daemon waits."""
    path = writing.model("m.gguf", weights, kind="Q8_0")
    raw = path.read_bytes()
    candidate = candidate_at(path)
    assert candidate is not None
    assert is_whole(candidate)
    assert is_complete(candidate) is None

    for length in (0, 3, 100, 1000, len(raw) // 2, len(raw) - 32):
        path.write_bytes(raw[:length])
        again = candidate_at(path)
        assert again is not None
        assert not is_whole(again)
    told = rules(path)
    assert told.keys() == {"truncated-file"}
    assert "output_norm.weight" in told["truncated-file"]


def test_members_of_a_split_model_are_all_watched(writing, weights) -> None:
    first = writing.model("m.gguf", weights, split=3)
    (writing.root / "m-00002-of-00004.gguf").unlink()

    assert [one.path for one in stat_members(first, "gguf")] == [
        f"m-0000{number}-of-00004.gguf" for number in (1, 3, 4)
    ]


def test_shards_of_both_kinds_under_one_name_do_not_mix(writing, weights, tmp_path: Path) -> None:
    """`model-00001-of-00004.gguf` is no shard of a safetensors model."""
    writing.model("model.gguf", weights, split=3)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")

    (candidate,) = discover(tmp_path)

    assert candidate.layout == "gguf"


def test_two_models_are_two_runs(writing, weights) -> None:
    writing.model("tiny-q4.gguf", weights, kind="Q4_0")
    writing.model("tiny-q8.gguf", weights, kind="Q8_0")

    assert len({candidate.group for candidate in discover(writing.root)}) == 2


@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
def test_an_end_that_was_never_written_is_told(writing, weights, kind: str) -> None:
    """After a crash a file system may keep the length, and zeros for the last blocks."""
    random = np.random.default_rng(3)
    last = {"blk.1.ffn_up.weight": random.standard_normal((64, 256))}
    path = writing.model("m.gguf", {**weights, **last}, kind=kind)
    assert rules(path) == {}
    raw = bytearray(path.read_bytes())
    raw[-2000:] = bytes(2000)
    path.write_bytes(raw)

    told = rules(path)["zero-filled-tail"]

    assert "tensor 'blk.1.ffn_up.weight' in 'm.gguf': is zero from byte" in told


@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
def test_rows_of_a_padded_vocabulary_are_no_torn_end(writing, weights, kind: str) -> None:
    last = {"output.weight": np.random.default_rng(3).standard_normal((128, 64))}
    last["output.weight"][100:] = 0

    assert rules(writing.model("m.gguf", {**weights, **last}, kind=kind)) == {}


def test_two_packings_are_compared_block_by_block(writing, weights) -> None:
    first = open_checkpoint(writing.model("a.gguf", weights, kind="Q8_0"))
    weights["blk.0.attn_q.weight"][3, 40] += 1
    second = open_checkpoint(writing.model("b.gguf", weights, kind="Q8_0"))

    found = compare(first, second)

    changed = [pair for pair in found.tensors if not pair.is_identical]
    assert [pair.first.name for pair in changed] == ["blk.0.attn_q.weight"]
    assert changed[0].difference is not None
    assert changed[0].difference.identical_count == 64 * 64 - 32
    assert not found.unknown
