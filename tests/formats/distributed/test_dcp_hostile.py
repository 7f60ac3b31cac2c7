"""A `.metadata` that lies, and `.distcp` files that are torn: one clear fault, nothing opened."""

from __future__ import annotations

import pickle
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel import regular
from sentinel.formats import files
from sentinel.formats.distributed import read_distributed
from sentinel.formats.draft import Draft
from sentinel.formats.opening import open_checkpoint
from sentinel.stats import reading

pytestmark = pytest.mark.trainer

torch = pytest.importorskip("torch")
dcp = pytest.importorskip("torch.distributed.checkpoint")


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("dcp") / "x"
    state = {"w": torch.arange(24.0).reshape(4, 6), "b": torch.ones(4), "epoch": 3}
    dcp.save({"model": state}, checkpoint_id=path, no_dist=True)
    return path


@pytest.fixture
def saved(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "x"))


def place_of(metadata, name):
    return next(key for key in metadata.storage_data if key.fqn == name)


def fault_of(path: Path):
    """The one fault; nothing else was raised, and no tensor of doubt is left."""
    found = open_checkpoint(path)
    (fault,) = found.faults
    assert len(fault.message) < 600
    return fault


def moved(**fields):
    def change(metadata):
        key = place_of(metadata, "model.w")
        metadata.storage_data[key] = replace(metadata.storage_data[key], **fields)

    return change


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "..", "sub/__0_0.distcp", "a\0b", "", "C:x"]
)
def test_a_name_that_leads_out_is_refused_and_never_opened(saved, edit, monkeypatch, name):
    opened: list[Path] = []
    honest = regular.open_any
    for module in (files, reading):
        monkeypatch.setattr(module, "open_any", lambda path: opened.append(path) or honest(path))
    edit(saved, moved(relative_path=name))
    opened.clear()

    fault = fault_of(saved)

    assert fault.rule == "malformed-file"
    assert "no file beside it" in fault.message
    assert opened == [saved / ".metadata"]


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"offset": 10**9}, "truncated-file"),
        ({"length": 10**9}, "malformed-file"),
        ({"offset": 2**63}, "malformed-file"),
        ({"offset": 2**62, "length": 2**62}, "malformed-file"),
        ({"offset": -1}, "malformed-file"),
        ({"length": -1}, "malformed-file"),
        ({"offset": "0"}, "malformed-file"),
        ({"offset": True}, "malformed-file"),
        ({"length": 0}, "truncated-file"),
        ({"offset": 1}, "malformed-file"),
        ({"transform_descriptors": ["stream.zstd"]}, "malformed-file"),
    ],
)
def test_places_are_checked_before_they_are_used(saved, edit, fields, rule):
    edit(saved, moved(**fields))
    assert rule in {fault.rule for fault in open_checkpoint(saved).faults}
    assert "w" not in {one.name for one in open_checkpoint(saved).tensors}


def chunks(*boxes, size=(4, 6)):
    """Give a tensor other chunks; all of them lie where the first did."""
    from torch.distributed.checkpoint.metadata import (  # noqa: PLC0415
        ChunkStorageMetadata,
        MetadataIndex,
    )

    def change(metadata):
        described = metadata.state_dict_metadata["model.w"]
        described.size = torch.Size(size)
        described.chunks = [
            ChunkStorageMetadata(torch.Size(at), torch.Size(extents)) for at, extents in boxes
        ]
        place = metadata.storage_data.pop(place_of(metadata, "model.w"))
        for number, (at, _) in enumerate(boxes):
            key = MetadataIndex("model.w", at, number)
            metadata.storage_data[key] = replace(place, offset=(1 + number) * 10**7)

    return change


@pytest.mark.parametrize(
    ("boxes", "fact"),
    [
        ([((0, 0), (3, 6)), ((2, 0), (2, 6))], "overlap"),
        ([((0, 0), (4, 6)), ((0, 0), (4, 6))], "overlap"),
        ([((0, 0), (2, 6))], "12 of its 24 elements"),
        ([((0, 0), (2, 6)), ((2, 0), (2, 5))], "22 of its 24 elements"),
        ([((1, 0), (4, 6))], "leaves its shape"),
        ([((0, 0), (2**62, 2**62))], "leaves its shape"),
        ([((0,), (24,))], "1 axes"),
        ([], "0 of its 24 elements"),
        ([((0, 0), (2, 4)), ((0, 4), (3, 2)), ((3, 2), (1, 4)), ((1, 1), (2, 2))], "elements"),
    ],
)
def test_chunks_tile_the_shape_or_are_refused(saved, edit, boxes, fact):
    edit(saved, chunks(*boxes))
    fault = fault_of(saved)
    assert fault.rule == "malformed-file"
    assert fact in fault.message


def test_a_shape_of_more_elements_than_can_be_counted_is_refused(saved, edit):
    edit(saved, chunks(((0, 0), (2**40, 2**40)), size=(2**40, 2**40)))
    assert "shape that is none" in fault_of(saved).message


def test_a_chunk_of_another_shape_than_described_is_refused(saved, edit):
    edit(
        saved, lambda m: setattr(m.state_dict_metadata["model.b"].properties, "dtype", torch.int32)
    )
    found = open_checkpoint(saved)
    assert [fault.rule for fault in found.faults] == ["malformed-file"]
    assert "F32 [4], its description says I32 [4]" in found.faults[0].message
    assert {one.name for one in found.tensors} == {"w"}


def test_two_things_in_one_place_are_refused(saved, edit):
    def change(metadata):
        data = metadata.storage_data
        data[place_of(metadata, "model.w")] = data[place_of(metadata, "model.b")]

    edit(saved, change)
    assert "two things" in fault_of(saved).message


def test_a_missing_file_is_a_missing_shard(saved):
    (saved / "__0_0.distcp").unlink()
    (saved / "__1_0.distcp").touch()
    fault = fault_of(saved)
    assert (fault.rule, fault.part, fault.member) == ("missing-shard", "weights", "__0_0.distcp")


def test_a_short_file_is_truncated_and_what_is_whole_stays(saved):
    path = saved / "__0_0.distcp"
    path.write_bytes(path.read_bytes()[:-10])

    found = open_checkpoint(saved)

    assert [fault.rule for fault in found.faults] == ["truncated-file"]
    assert len(found.tensors) == 1


class Evil:
    def __reduce__(self):
        return (eval, ("1/0",))


def test_a_call_is_told_and_never_made(saved, edit):
    edit(saved, lambda m: setattr(m, "planner_data", Evil()))
    assert fault_of(saved).rule == "unsafe-pickle"


def test_a_call_inside_a_chunk_is_told_and_never_made(tmp_path):
    """Objects of an optimizer are read from pickles of their own."""
    state = {"param_groups": [{"lr": Evil(), "params": [0]}], "state": {}}
    dcp.save({"optim": state}, checkpoint_id=tmp_path / "x", no_dist=True)
    fault = fault_of(tmp_path / "x")
    assert (fault.rule, fault.part) == ("unsafe-pickle", "optimizer")


def test_a_million_chunks_are_refused(saved, edit):
    """One chunk a million times over: two bytes each in the file, recalled from the memo."""

    def crowd(metadata):
        described = metadata.state_dict_metadata["model.w"]
        described.chunks = described.chunks * 1_000_000

    edit(saved, crowd)

    assert "has 1000000 chunks" in fault_of(saved).message


def test_a_pickle_of_something_else_is_no_description(saved):
    (saved / ".metadata").write_bytes(pickle.dumps({"state_dict_metadata": {}}))
    assert "no description" in fault_of(saved).message


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_mutation_ends_in_a_checkpoint(original, tmp_path_factory, data):
    """Of the description or of a chunk: a value or a fault, never another exception."""
    root = tmp_path_factory.mktemp("mutated")
    name = data.draw(st.sampled_from([".metadata", "__0_0.distcp"]))
    for file in original.iterdir():
        shutil.copy(file, root / file.name)
    raw = bytearray((root / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        new = data.draw(st.sampled_from([b"\xff", b"\0", struct.pack("<q", -1), b"K\x01"]))
        raw[at : at + len(new)] = new
    (root / name).write_bytes(bytes(raw))

    draft = Draft(root)
    read_distributed(draft)

    assert all(fault.message for fault in draft.faults)
    assert all(one.size_bytes <= len(raw) + 10**5 for one in draft.tensors.values())
