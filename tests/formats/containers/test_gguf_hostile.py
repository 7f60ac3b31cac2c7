"""GGUF files that lie: each is refused in one sentence, none costs more than its own size."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.errors import InputError, TruncatedError
from sentinel.formats.containers.gguf import read_gguf

HUGE = 2**63
STRING, ARRAY, UINT32 = 8, 9, 4


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def key(name: str | bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def array(kind: int, count: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + items


def info(name: str | bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    extents = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + extents + struct.pack("<IQ", kind, offset)


def packed(
    keys: list[bytes],
    infos: list[bytes],
    data: bytes = b"",
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
    alignment: int = 32,
) -> bytes:
    tensors, pairs = counts or (len(infos), len(keys))
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + b"".join([*keys, *infos])
    return head + bytes(-len(head) % alignment) + data


def align(value: int) -> bytes:
    return key("general.alignment", UINT32, struct.pack("<I", value))


SMALL = packed(
    [
        key("general.architecture", STRING, text("llama")),
        key("x.texts", ARRAY, array(STRING, 2, text("a") + text("bc"))),
        key("x.nested", ARRAY, array(ARRAY, 1, array(UINT32, 1, bytes(4)))),
    ],
    [info("a", (4, 2)), info("b", (3,), offset=32), info("q", (32,), 8, 64)],
    bytes(64 + 34 + 30),
)

HOSTILE = {
    "empty": b"",
    "another magic": b"GGML" + bytes(60),
    "version 1": packed([], [], version=1),
    "version 4": packed([], [], version=4),
    "version 0": packed([], [], version=0),
    "2^63 tensors": packed([], [], counts=(HUGE, 0)),
    "2^63 keys": packed([], [], counts=(0, HUGE)),
    "more tensors than bytes": packed([], [], counts=(100_000, 0)),
    "more keys than bytes": packed([], [], counts=(0, 60_000)),
    "a key of 2^63 bytes": packed([struct.pack("<Q", HUGE)], []),
    "a key longer than the file": packed([struct.pack("<Q", 60_000)], []),
    "a text of 2^63 bytes": packed([key("k", STRING, struct.pack("<Q", HUGE))], []),
    "a text longer than the file": packed([key("k", STRING, struct.pack("<Q", 2**30))], []),
    "a key of no UTF-8": packed([key(b"\xff\xfe", UINT32, bytes(4))], []),
    "an unknown value type": packed([key("k", 13, bytes(8))], []),
    "a truth value of 2": packed([key("k", 7, b"\x02")], []),
    "a key twice": packed([key("k", UINT32, bytes(4))] * 2, []),
    "an array of 2^63 items": packed([key("k", ARRAY, array(UINT32, HUGE))], []),
    "an array longer than the file": packed([key("k", ARRAY, array(UINT32, 2**30))], []),
    "2^30 texts": packed([key("k", ARRAY, array(STRING, 2**30))], []),
    "2^30 arrays": packed([key("k", ARRAY, array(ARRAY, 2**30))], []),
    "an array of an unknown type": packed([key("k", ARRAY, array(99, 1))], []),
    "arrays too deep": packed([key("k", ARRAY, array(ARRAY, 1) * 50)], [], bytes(1000)),
    "a text in an array beyond the end": packed(
        [key("k", ARRAY, array(STRING, 20, text("") * 19 + struct.pack("<Q", HUGE)))], []
    ),
    "no alignment": packed([align(0)], []),
    "an alignment of 12": packed([align(12)], []),
    "an alignment of 2^31": packed([align(2**31)], []),
    "an alignment that is a text": packed([key("general.alignment", STRING, text("32"))], []),
    "a name twice": packed([], [info("a", (8,)), info("a", (8,), offset=32)], bytes(64)),
    "a name of no UTF-8": packed([], [info(b"\xff", (8,))], bytes(32)),
    "2^31 axes": packed([], [text("a") + struct.pack("<I", 2**31) + bytes(99)]),
    "an axis of 2^63": packed([], [info("a", (HUGE,))]),
    "axes whose product overflows": packed([], [info("a", (2**32, 2**32))]),
    "an unknown type": packed([], [info("a", (8,), 99)], bytes(32)),
    "a type that was taken out": packed([], [info("a", (32,), 31)], bytes(32)),
    "half a block": packed([], [info("a", (16,), 8)], bytes(32)),
    "a row of no whole blocks": packed([], [info("a", (48, 2), 8)], bytes(128)),
    "overlapping tensors": packed([], [info("a", (16,)), info("b", (8,), offset=32)], bytes(96)),
    "the same bytes twice": packed([], [info("a", (8,)), info("b", (8,))], bytes(32)),
    "a gap": packed([], [info("a", (8,)), info("b", (8,), offset=64)], bytes(96)),
    "an offset off the alignment": packed(
        [], [info("a", (4,)), info("b", (8,), offset=16)], bytes(64)
    ),
    "an offset of 2^63": packed([], [info("a", (8,), offset=HUGE)], bytes(32)),
    "bytes behind the end": packed([], [info("a", (8,))], bytes(65)),
}


def test_the_small_file_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(SMALL)
    assert [one.dtype for one in read_gguf(path).tensors] == ["F32", "F32", "Q8_0"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            read_gguf(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("version 1", "is of version 1, known are 2 and 3"),
        ("2^63 tensors", "the number of tensors is 9223372036854775808, the limit is 131072"),
        ("a key twice", "its metadata has the key 'k' twice"),
        ("an alignment of 12", "its general.alignment is 12, no usable power of two"),
        ("a type that was taken out", "its type Q4_0_4_4 was taken out of the format; convert"),
        ("half a block", "its rows of 16 values are no whole Q8_0 blocks of 32"),
        ("overlapping tensors", "tensor 'b' in "),
        ("a gap", "it leaves a gap: it begins at byte 64 of the data, not at 32"),
        ("bytes behind the end", "its tensors end at byte 96, the file at 129"),
    ],
)
def test_what_is_said(tmp_path: Path, name: str, said: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(InputError) as caught:
        read_gguf(path)
    assert said in str(caught.value)


def test_a_cut_is_no_damage(tmp_path: Path) -> None:
    """A file that is still written is called cut short at every length, never malformed."""
    path = tmp_path / "m.gguf"
    for length in range(len(SMALL) - 30):
        path.write_bytes(SMALL[:length])
        with pytest.raises(TruncatedError):
            read_gguf(path)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_mutation_ends_in_a_file_or_an_input_error(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "m.gguf"
    raw = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    with contextlib.suppress(InputError):
        found = read_gguf(path)
        assert all(one.offset + one.size_bytes <= len(raw) for one in found.tensors)


@st.composite
def values(draw: st.DrawFn, depth: int = 0) -> tuple[int, bytes]:
    """A value of any type, arrays in arrays among them, its counts at times a lie."""
    kind = draw(st.integers(0, 13))
    if kind == STRING:
        return kind, text(draw(st.binary(max_size=5)))
    if kind == ARRAY and depth < 6:
        inner, item = draw(values(depth=depth + 1))
        return kind, array(inner, draw(st.integers(0, 3) | st.just(HUGE)), item * 2)
    return kind, draw(st.binary(max_size=8))


@given(keys=st.lists(st.tuples(st.text(max_size=3), values()), max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_metadata_ends_in_values_or_an_input_error(
    tmp_path: Path, keys: list[tuple[str, tuple[int, bytes]]]
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(packed([key(name, *value) for name, value in keys], [], bytes(64)))
    with contextlib.suppress(InputError):
        assert len(read_gguf(path).metadata) == len(keys)
