"""Archives and streams that contradict themselves, reach outside, or were cut short."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.errors import InputError, TruncatedError, UnsafePickleError
from sentinel.formats.containers.torch_file import read_torch_file
from sentinel.formats.containers.torch_legacy import MAGIC


class Storage:
    """Pickled by its persistent id, as torch's storages are."""

    def __init__(self, key: str, kind: str, numel: int) -> None:
        self.key, self.kind, self.numel = key, kind, numel


class Global:
    """Pickled as a global of this name, which need not exist here."""

    def __init__(self, module: str, name: str) -> None:
        self.line = f"c{module}\n{name}\n".encode()


def pickled(value: object) -> bytes:
    """Protocol 2 of plain values, Storage, Global and (Global, arguments) as a `Reduced`."""
    return b"\x80\x02" + _piece(value) + b"."


class Reduced:
    def __init__(self, target: Global, *arguments: object) -> None:
        self.target, self.arguments = target, arguments


def tensor(storage: Storage, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0):
    target = Global("torch._utils", "_rebuild_tensor_v2")
    hooks = Reduced(Global("collections", "OrderedDict"))
    return Reduced(target, storage, offset, shape, strides, False, hooks)  # noqa: FBT003


def _piece(value: object) -> bytes:  # noqa: PLR0911 - one a kind of value
    match value:
        case Global():
            return value.line
        case Reduced():
            return _piece(value.target) + _piece(value.arguments) + b"R"
        case Storage():
            kind = Global("torch", value.kind)
            return _piece(("storage", kind, value.key, "cpu", value.numel)) + b"Q"
        case dict():
            items = b"".join(_piece(key) + _piece(one) for key, one in value.items())
            return b"}(" + items + b"u"
        case list():
            return b"](" + b"".join(map(_piece, value)) + b"e"
        case tuple():
            return b"(" + b"".join(map(_piece, value)) + b"t"
        case _:
            return pickle.dumps(value, protocol=2)[2:-1]


def archive(
    raw: bytes, storages: Mapping[str, bytes] | None = None, *, order: str = "little"
) -> bytes:
    """A file of torch.save around a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("a/data.pkl", raw)
        out.writestr("a/byteorder", order)
        for key, data in (storages or {}).items():
            out.writestr(f"a/data/{key}", data)
    return file.getvalue()


@pytest.fixture
def write(tmp_path: Path):
    def written(raw: bytes) -> Path:
        path = tmp_path / "x.pt"
        path.write_bytes(raw)
        return path

    return written


def stream(value: object, storages: Mapping[str, bytes], width: int = 4) -> bytes:
    """A file of torch.save in the old format."""
    raw = pickle.dumps(MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    raw += pickled(value) + pickle.dumps(list(storages), 2)
    for data in storages.values():
        raw += struct.pack("<q", len(data) // width) + data
    return raw


FLOATS = struct.pack("<6f", *range(6))
ONE = {"w": tensor(Storage("0", "FloatStorage", 6), (2, 3), (3, 1))}


def test_a_healthy_file_is_read_in_both_formats(write):
    """The builders below build what torch reads; only their faulty variants are refused."""
    for raw in (archive(pickled(ONE), {"0": FLOATS}), stream(ONE, {"0": FLOATS})):
        path = write(raw)
        (found,) = read_torch_file(path).tensors
        assert (found.name, found.dtype, found.shape, found.strides) == ("w", "F32", (2, 3), None)
        assert path.read_bytes()[found.offset :][: found.size_bytes] == FLOATS


@pytest.mark.parametrize(
    "made",
    [
        tensor(Storage("0", "FloatStorage", 6), (2, 4), (4, 1)),
        tensor(Storage("0", "FloatStorage", 6), (2, 3), (3, 1), offset=1),
        tensor(Storage("0", "FloatStorage", 6), (2, 3), (4, 1)),
        tensor(Storage("0", "DoubleStorage", 6), (2, 3), (3, 1)),
        tensor(Storage("9", "FloatStorage", 6), (2, 3), (3, 1)),
        tensor(Storage("../0", "FloatStorage", 6), (2, 3), (3, 1)),
        tensor(Storage("0", "NoStorage", 6), (2, 3), (3, 1)),
        tensor(Storage("0", "FloatStorage", -1), (2, 3), (3, 1)),
        tensor(Storage("0", "FloatStorage", 6), (2, -3), (3, 1)),
        tensor(Storage("0", "FloatStorage", 6), (2, 3), (3, -1)),
        tensor(Storage("0", "FloatStorage", 6), (2, 3), (1,)),
        tensor(Storage("0", "FloatStorage", 6), (2**62, 4), (0, 0)),
        tensor(Storage("0", "FloatStorage", 6), (2**70,), (0,)),
        tensor(Storage("0", "FloatStorage", 6), (1,) * 65, (1,) * 65),
        tensor(Storage("0", "FloatStorage", 6), (2, 3), (2**62, 2**62)),
    ],
)
def test_a_tensor_that_leaves_its_storage_is_refused(write, made):
    """Also where the product of the shape or of the strides passes 64 bits."""
    for raw in (archive(pickled({"w": made}), {"0": FLOATS}), stream({"w": made}, {"0": FLOATS})):
        with pytest.raises(InputError) as caught:
            read_torch_file(write(raw))
        assert caught.value.rule in {"malformed-file", "truncated-file"}


def test_two_tensors_of_one_name_are_refused(write):
    twice = {"a": {"b": ONE["w"]}, "a.b": ONE["w"]}
    with pytest.raises(InputError, match="two tensors"):
        read_torch_file(write(archive(pickled(twice), {"0": FLOATS})))


def test_laughter_is_limited(write):
    """Nine lists of ten times the list before are a billion values, and small in the file."""
    raw = b"\x80\x02](K\x01eq\x00"
    for level in range(9):
        raw += b"](" + (b"h" + bytes([level])) * 10 + b"eq" + bytes([level + 1])
    with pytest.raises(InputError, match="unfolds"):
        read_torch_file(write(archive(raw + b".")))
    with pytest.raises(InputError, match="nested"):
        read_torch_file(write(archive(b"\x80\x02]q\x00h\x00a.")))


def test_a_call_in_either_format_is_unsafe(write, tmp_path):
    canary = tmp_path / "canary"
    attack = {"w": ONE["w"], "x": Reduced(Global("posix", "system"), f"touch {canary}")}
    for raw in (
        archive(pickled(attack), {"0": FLOATS}),
        stream(attack, {"0": FLOATS}),
        pickled(attack),
    ):
        with pytest.raises(UnsafePickleError, match=r"posix\.system"):
            read_torch_file(write(raw))
    assert not canary.exists()


def test_archives_that_contradict_themselves_are_refused(write):
    good = archive(pickled(ONE), {"0": FLOATS})
    name = good.index(b"a/data/0")
    directory = good.rindex(b"PK\x01\x02")
    compressed = io.BytesIO()
    with zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("a/data.pkl", pickled({}))
    faulty = {
        "another name in the local header": good[:name] + b"a/data/1" + good[name + 8 :],
        "encrypted": good[: directory + 8] + b"\x01" + good[directory + 9 :],
        "something before": b"PK\x03\x04" + good,
        "something after": good + b"x",
        "compressed": compressed.getvalue(),
        "no pickle": archive(b"").replace(b"data.pkl", b"data.pkx"),
        "two byte orders": archive(pickled(ONE), {"0": FLOATS}, order="middle"),
    }
    for what, raw in faulty.items():
        with pytest.raises(InputError) as caught:
            read_torch_file(write(raw))
        assert caught.value.rule == "malformed-file", what


def test_every_cut_is_seen(write):
    """However much is missing, the file is truncated, never healthy."""
    for good in (archive(pickled(ONE), {"0": FLOATS}), stream(ONE, {"0": FLOATS})):
        for length in range(4, len(good)):
            with pytest.raises(TruncatedError):
                read_torch_file(write(good[:length]))


@pytest.mark.parametrize("raw", [b"", b"\0" * 4096])
def test_an_empty_or_zeroed_file_is_truncated(write, raw):
    with pytest.raises(TruncatedError):
        read_torch_file(write(raw))


def test_a_foreign_file_is_malformed(write):
    for raw in (b"GGUF" + b"\0" * 40, b"\x93NUMPY", b"<html>", pickle.dumps({"a": 1}, 2)):
        with pytest.raises(InputError):
            read_torch_file(write(raw))


@given(st.data())
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_mutation_ends_in_a_value_or_an_input_error(write, data):
    good = data.draw(
        st.sampled_from(
            [archive(pickled(ONE), {"0": FLOATS}), stream({"a": [ONE, 1.5]}, {"0": FLOATS})]
        )
    )
    raw = bytearray(good)
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_torch_file(write(bytes(raw)))
    except InputError:
        return
    for one in found.tensors:
        assert one.offset >= 0
        assert one.offset + one.size_bytes <= len(raw)
