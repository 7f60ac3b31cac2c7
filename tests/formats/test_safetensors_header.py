"""The header reader: what the official reader sees, and nothing else gets through."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import deserialize, safe_open
from safetensors.numpy import save, save_file

from sentinel.errors import InputError, MissingMemberError, TruncatedError, UnreadableError
from sentinel.formats.containers.safetensors import (
    SafetensorsHeader,
    read_safetensors_header,
)

DTYPES = ("f2", "f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?")

VALID = save(
    {
        "a.weight": np.arange(6, dtype="f4").reshape(2, 3),
        "b": np.zeros((), "f2"),
        "c": np.ones((0, 4), "i8"),
        "d": np.ones(5, "u1"),
    },
    {"note": "made for a test"},
)


def packed(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def read(tmp_path: Path, content: bytes) -> SafetensorsHeader:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    return read_safetensors_header(path)


def test_it_sees_what_the_official_reader_sees(tmp_path: Path) -> None:
    """Names, dtypes, shapes, metadata, and bytes at the offsets it gives."""
    path = tmp_path / "all kinds.safetensors"
    rng = np.random.default_rng(3)
    tensors = {f"t.{kind}": (rng.random((3, 5)) * 9).astype(kind) for kind in DTYPES}
    save_file(tensors, path, {"k": "v"})

    header = read_safetensors_header(path)

    content = path.read_bytes()
    with safe_open(path, "numpy") as official:
        assert {one.name for one in header.tensors} == set(official.keys())
        assert header.metadata == official.metadata()
        for one in header.tensors:
            view = official.get_slice(one.name)
            assert (one.dtype, list(one.shape)) == (view.get_dtype(), view.get_shape())
            at_offset = content[one.offset : one.offset + one.size_bytes]
            assert at_offset == official.get_tensor(one.name).tobytes()


@pytest.mark.parametrize(
    "name", ["with space.safetensors", "line\nbreak.safetensors", "żółw-漢字.safetensors"]
)
@pytest.mark.skipif(os.name == "nt", reason="Windows refuses some of these names")
def test_odd_file_names_are_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(VALID)

    assert len(read_safetensors_header(tmp_path / name).tensors) == 4


@pytest.mark.parametrize("size", [0, 1, 7, 8, 20, len(VALID) - 1])
def test_a_cut_short_file_is_truncated(tmp_path: Path, size: int) -> None:
    with pytest.raises(TruncatedError):
        read(tmp_path, VALID[:size])


FAULTY = {
    "trailing bytes": VALID + b"\0",
    "length 2**63": (2**63).to_bytes(8, "little") + VALID[8:],
    "length beyond the limit": (100_000_001).to_bytes(8, "little") + VALID[8:],
    "no object": packed(b"[]"),
    "leading space": packed(b" {}"),
    "no JSON": packed(b'{"a":'),
    "not UTF-8": packed(b'{"\xff":1}'),
    "half a surrogate pair": packed(b'{"\\ud800":' + json.dumps(entry()).encode() + b"}", bytes(4)),
    "deep nesting": packed(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "NaN in JSON": packed(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', bytes(4)),
    "an endless number": packed(b'{"a":' + b"9" * 5000 + b"}"),
    "a key twice": packed(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        bytes(4),
    ),
    "a key twice in a tensor": packed(
        b'{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)
    ),
    "metadata is no map": packed({"__metadata__": [], "a": entry()}, bytes(4)),
    "metadata is no text": packed({"__metadata__": {"n": 1}, "a": entry()}, bytes(4)),
    "entry is no object": packed({"a": 1}),
    "unknown dtype": packed({"a": entry("F31")}, bytes(4)),
    "dtype is no text": packed({"a": {**entry(), "dtype": ["F32"]}}, bytes(4)),
    "negative extent": packed({"a": entry(shape=[-1])}, bytes(4)),
    "boolean extent": packed({"a": entry(shape=[True])}, bytes(4)),
    "float extent": packed({"a": entry(shape=[1.0])}, bytes(4)),
    "shape is no list": packed({"a": entry(shape="1")}, bytes(4)),
    "extents that overflow": packed({"a": entry(shape=[2**32, 2**32, 4])}, bytes(4)),
    "extent beyond 64 bits": packed({"a": entry(shape=[0, 2**64], offsets=[0, 0])}),
    "shape and bytes differ": packed({"a": entry(shape=[2])}, bytes(4)),
    "three offsets": packed({"a": entry(offsets=[0, 4, 4])}, bytes(4)),
    "offsets backwards": packed({"a": entry(offsets=[4, 0])}, bytes(4)),
    "half a byte": packed({"a": entry("F4", [3], [0, 1])}, bytes(1)),
    "overlap": packed({"a": entry(), "b": entry(offsets=[2, 6])}, bytes(6)),
    "gap": packed({"a": entry(), "b": entry(offsets=[8, 12])}, bytes(12)),
    "gap at the start": packed({"a": entry(offsets=[4, 8])}, bytes(8)),
}


@pytest.mark.parametrize("content", FAULTY.values(), ids=FAULTY)
def test_a_faulty_twin_is_refused(tmp_path: Path, content: bytes) -> None:
    """Not truncated but wrong: the file is as long as it says, and still makes no sense."""
    with pytest.raises(InputError) as raised:
        read(tmp_path, content)

    assert raised.value.rule == "malformed-file"
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("content", [b"{}", b'{"__metadata__":{"format":"pt"}}'])
def test_a_file_without_a_tensor_is_whole(tmp_path: Path, content: bytes) -> None:
    """Forty bytes of an adapter that selected nothing: the official reader takes them too."""
    assert read(tmp_path, packed(content)).tensors == ()
    assert deserialize(packed(content)) == []


def test_a_file_that_was_laid_out_and_not_filled_is_truncated(tmp_path: Path) -> None:
    """The versions 0.8.0-rc of safetensors gave a file its full length before its first byte."""
    with pytest.raises(TruncatedError, match="never filled"):
        read(tmp_path, bytes(64))


def test_bytes_beyond_the_end_of_the_file_are_truncation(tmp_path: Path) -> None:
    with pytest.raises(TruncatedError, match="its bytes end at"):
        read(tmp_path, packed({"a": entry(), "b": entry(offsets=[4, 8])}, bytes(6)))


def test_four_bit_tensors_take_half_a_byte_an_element(tmp_path: Path) -> None:
    [tensor] = read(tmp_path, packed({"a": entry("F4", [2, 4], [0, 4])}, bytes(4))).tensors

    assert (tensor.shape, tensor.size_bytes) == ((2, 4), 4)


@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(VALID) - 1), st.binary(max_size=3)), min_size=1, max_size=4
    ),
    end=st.integers(0, len(VALID)),
)
@settings(max_examples=400, deadline=None)
def test_no_mutation_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]], end: int
) -> None:
    """A mutated or truncated file is a value that fits its file, or an InputError."""
    content = bytearray(VALID)
    for at, piece in changes:
        content[at : at + len(piece)] = piece
    content = content[:end] if end % 3 == 0 else content
    path = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    path.write_bytes(content)

    try:
        header = read_safetensors_header(path)
    except InputError:
        return

    assert sum(one.size_bytes for one in header.tensors) < len(content)
    assert max(one.offset + one.size_bytes for one in header.tensors) == len(content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(
    header=st.dictionaries(
        st.text(max_size=6) | st.just("__metadata__"),
        json_values
        | st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "F4", "I8"]) | json_values,
                "shape": st.lists(st.integers(-1, 3), max_size=3) | json_values,
                "data_offsets": st.lists(st.integers(0, 12), max_size=2) | json_values,
            }
        ),
        max_size=4,
    ),
    data=st.binary(max_size=16),
)
@settings(max_examples=200, deadline=None)
def test_no_header_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, header: dict, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "made-up.safetensors"
    path.write_bytes(packed(header, data))

    try:
        found = read_safetensors_header(path)
    except InputError:
        return

    assert {one.name for one in found.tensors} == header.keys() - {"__metadata__"}


def test_what_the_system_refuses_is_said(tmp_path: Path) -> None:
    """Missing, a directory, a link to itself: each has its own rule."""
    loop = tmp_path / "loop.safetensors"
    loop.symlink_to(loop)

    with pytest.raises(MissingMemberError):
        read_safetensors_header(tmp_path / "none.safetensors")
    with pytest.raises(UnreadableError):
        read_safetensors_header(loop)
    with pytest.raises(InputError, match="no regular file"):
        read_safetensors_header(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")

    with pytest.raises(InputError, match="no regular file"):
        read_safetensors_header(tmp_path / "pipe.safetensors")
