"""Files that the gguf package wrote: everything in them as the package itself reads it back."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from sentinel.dtypes import BLOCKS
from sentinel.errors import TruncatedError
from sentinel.formats.containers.gguf import GgufFile, read_gguf
from sentinel.formats.containers.gguf_metadata import GgufArray, GgufValue
from sentinel.formats.containers.gguf_types import GGML_TYPES

gguf = pytest.importorskip("gguf")

Kind = gguf.GGMLQuantizationType
PLAIN = {"F32": "f4", "F16": "f2", "F64": "f8", "I8": "i1", "I16": "i2", "I32": "i4", "I64": "i8"}
BOTH = [gguf.GGUFEndian.LITTLE, gguf.GGUFEndian.BIG]


def write(writer: object) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def codes(kind: Kind, rows: int, seed: int = 0) -> np.ndarray:
    """Random bytes of two blocks a row."""
    _, size_bytes = gguf.GGML_QUANT_SIZES[kind]
    return np.random.default_rng(seed).integers(0, 256, (rows, 2 * size_bytes), "u1")


def assert_as_reference(path: Path) -> GgufFile:
    """Names, types, shapes, raw bytes and metadata are those of GGUFReader."""
    found, reader, raw = read_gguf(path), gguf.GGUFReader(path), path.read_bytes()
    assert found.big_endian == (reader.endianess == gguf.GGUFEndian.BIG)
    assert found.alignment == reader.alignment
    assert [one.name for one in found.tensors] == [one.name for one in reader.tensors]
    for ours, theirs in zip(found.tensors, reader.tensors, strict=True):
        assert ours.dtype == theirs.tensor_type.name
        assert ours.shape == tuple(reversed(theirs.shape.tolist()))
        assert (ours.offset, ours.size_bytes) == (theirs.data_offset, theirs.n_bytes)
        assert raw[ours.offset :][: ours.size_bytes] == theirs.data.tobytes()
    fields = {key: one for key, one in reader.fields.items() if not key.startswith("GGUF.")}
    assert list(found.metadata) == list(fields)
    for key, field in fields.items():
        assert_same_value(found.metadata[key], field.contents())
    return found


def assert_same_value(ours: GgufValue, theirs: object) -> None:
    if isinstance(ours, GgufArray):
        assert isinstance(theirs, list)
        assert ours.count == len(theirs)
        assert list(ours.first) == theirs[: len(ours.first)]
        assert len(ours.first) == min(ours.count, 16)
    else:
        assert (ours, type(ours)) == (theirs, type(theirs))


@pytest.mark.parametrize("order", BOTH)
def test_every_unquantised_type(tmp_path: Path, order: object) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama", endianess=order)
    for name, native in PLAIN.items():
        writer.add_tensor(f"{name}.weight", np.arange(24).reshape(2, 3, 4).astype(native))
    writer.add_tensor("scalar", np.array(2.5, "f4"))
    writer.add_tensor("none", np.zeros((0, 4), "f4"))
    write(writer)

    found = assert_as_reference(tmp_path / "m.gguf")

    assert found.version == 3
    turned = {one.name for one in found.tensors if one.big_endian}
    assert turned == (
        {one.name for one in found.tensors if one.dtype != "I8"}
        if order == gguf.GGUFEndian.BIG
        else set()
    )


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind.name not in PLAIN])
def test_every_packed_type(tmp_path: Path, kind: Kind) -> None:
    """Three rows of two blocks: random codes, all types the package has a size for."""
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("w", codes(kind, 3), raw_dtype=kind)
    writer.add_tensor("after", np.ones(5, "f4"))
    write(writer)

    (tensor, _after) = assert_as_reference(tmp_path / "m.gguf").tensors

    assert tensor.shape == (3, 2 * gguf.GGML_QUANT_SIZES[kind][0])


def test_the_tables_are_those_of_the_package() -> None:
    """But for a type that llama.cpp has and this version of the package has not."""
    newer = {"Q2_0"} - {kind.name for kind in Kind}
    known = {number: name for number, name in GGML_TYPES.items() if name not in newer}
    assert known == {kind.value: kind.name for kind in Kind}
    sizes = {one.name: (one.elements, one.size_bytes) for one in BLOCKS.values()}
    theirs = {kind.name: size for kind, size in gguf.GGML_QUANT_SIZES.items() if size[0] > 1}
    assert {name: size for name, size in sizes.items() if name not in newer} == theirs


@pytest.mark.parametrize("order", BOTH)
@pytest.mark.parametrize("alignment", [8, 32, 256])
def test_metadata_of_every_type(tmp_path: Path, order: object, alignment: int) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama", endianess=order)
    writer.add_custom_alignment(alignment)
    for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
        getattr(writer, f"add_{name}")(f"x.{name}", 100 if name.startswith("u") else -100)
    writer.add_float32("x.float32", 0.1)
    writer.add_float64("x.float64", 0.1)
    writer.add_bool("x.true", val=True)
    writer.add_bool("x.false", val=False)
    writer.add_string("x.text", "grüße 👋")
    writer.add_array("x.numbers", list(range(1000)))
    writer.add_array("x.floats", [0.5, 1.5])
    writer.add_array("x.flags", [True, False, True])
    writer.add_array("x.texts", [f"token {number}" for number in range(1000)])
    for number in range(3):
        writer.add_tensor(f"t{number}", np.full(3, number, "f4"))
    write(writer)

    assert assert_as_reference(tmp_path / "m.gguf").alignment == alignment


def test_arrays_in_arrays(tmp_path: Path) -> None:
    """The package writes them and flattens them when it reads; here they stay as they are."""
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_array("x", [[number, number + 1] for number in range(30)])
    writer.add_uint8("after", 7)
    writer.add_tensor("t", np.ones(3, "f4"))
    write(writer)

    metadata = read_gguf(tmp_path / "m.gguf").metadata

    assert metadata["x"].kind == "array"
    assert metadata["x"].count == 30
    assert metadata["x"].first[15] == GgufArray("int32", 2, (15, 16))
    assert metadata["after"] == 7
    flat = gguf.GGUFReader(tmp_path / "m.gguf").fields["x"].contents()
    ours = itertools.chain.from_iterable(one.first for one in metadata["x"].first)
    assert list(ours) == flat[:32]


def test_version_two_is_read_like_three(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("t", np.ones((2, 3), "f4"))
    write(writer)
    raw = bytearray((tmp_path / "m.gguf").read_bytes())
    raw[4] = 2
    (tmp_path / "m.gguf").write_bytes(raw)

    assert assert_as_reference(tmp_path / "m.gguf").version == 2


def test_every_cut_is_seen(tmp_path: Path) -> None:
    """At each byte up to the end of the last tensor; the padding behind it nobody needs."""
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("x.texts", ["a", "bc", ""])
    writer.add_tensor("q", codes(Kind.Q4_K, 1), raw_dtype=Kind.Q4_K)
    writer.add_tensor("t", np.ones(5, "f4"))
    write(writer)
    whole = path.read_bytes()
    end = max(one.offset + one.size_bytes for one in read_gguf(path).tensors)

    for length in range(end):
        path.write_bytes(whole[:length])
        with pytest.raises(TruncatedError):
            read_gguf(path)
    path.write_bytes(whole[:end])
    assert len(read_gguf(path).tensors) == 2
