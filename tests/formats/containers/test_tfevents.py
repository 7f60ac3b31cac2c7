"""TensorBoard event files: what TensorBoard's own reader sees, and nothing from what is broken."""

from __future__ import annotations

import math
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.formats.containers import tfrecord
from sentinel.formats.containers.crc32c import masked_crc32c, masked_crc32cs
from sentinel.formats.containers.tfevents import Scalar, read_events

Write = Callable[..., Path]


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    sums = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
    return length + next(sums) + data + next(sums)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def event(step: int, tag: str, value: float, *, at_s: float = 1e9) -> bytes:
    named = field(1, tag.encode()) + b"\x15" + struct.pack("<f", value)
    return b"\x09" + struct.pack("<d", at_s) + b"\x10" + varint(step) + field(5, field(1, named))


RECORDS = [record(event(step, "loss", 2.0 / step)) for step in range(1, 6)]
SCALARS = tuple(
    Scalar(step, "loss", float(np.float32(2.0 / step)), 1e9) for step in range(1, len(RECORDS) + 1)
)


@pytest.fixture
def put(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "events.out.tfevents.1000000000.host"
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def writer(tmp_path: Path) -> Any:
    pytest.importorskip("tensorboard")
    return pytest.importorskip("torch.utils.tensorboard").SummaryWriter(tmp_path / "run")


def official(directory: Path) -> list[Scalar]:
    """Every scalar of both kinds, as TensorBoard's own reader gives them."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tensors = pytest.importorskip("tensorboard.util.tensor_util")
    found = accumulators.EventAccumulator(
        str(directory), size_guidance={"scalars": 0, "tensors": 0}, purge_orphaned_data=False
    )
    found.Reload()
    plain = [
        Scalar(one.step, tag, one.value, one.wall_time)
        for tag in found.Tags()["scalars"]
        for one in found.Scalars(tag)
    ]
    arrays = [
        (one, tag, tensors.make_ndarray(one.tensor_proto))
        for tag in found.Tags()["tensors"]
        for one in found.Tensors(tag)
    ]
    return plain + [
        Scalar(one.step, tag, float(array.reshape(())), one.wall_time)
        for one, tag, array in arrays
        if array.size == 1 and array.dtype.kind == "f"
    ]


def test_scalars_are_what_tensorboard_reads(writer: Any) -> None:
    """Bit for bit, of both kinds, beside texts, histograms, images and more in one file."""
    torch = pytest.importorskip("torch")
    writer.add_text("args", "x" * 40_000)
    for step in range(200):
        writer.add_scalar("train/loss", 2.5 / (step + 1), step)
        writer.add_scalar("eval/loss", 1.0 + step, step, new_style=True)
        writer.add_scalar("grad", 1e-3 * step, step, new_style=True, double_precision=True)
    for step, odd in enumerate((math.nan, math.inf, -math.inf, 1e-45, -0.0)):
        writer.add_scalar("odd", odd, 2**40 + step)
    writer.add_histogram("weights", torch.arange(100.0), 3)
    writer.add_image("sample", torch.zeros(3, 64, 64), 4)
    writer.add_tensor("vector", torch.ones(7), 5)
    writer.close()

    (path,) = Path(writer.log_dir).glob("events.*")
    found = read_events(path)

    assert found.is_all
    assert len(found.scalars) == 605
    assert sorted(map(repr, found.scalars)) == sorted(map(repr, official(path.parent)))


def test_a_file_cut_at_any_byte_keeps_its_whole_records(put: Callable[[bytes], Path]) -> None:
    """While a trainer writes, the last record is torn."""
    whole = b"".join(RECORDS)
    ends = np.cumsum([len(one) for one in RECORDS])
    for size in range(len(whole) + 1):
        count = int(np.searchsorted(ends, size, side="right"))
        assert read_events(put(whole[:size])).scalars == SCALARS[:count]


def test_a_flipped_bit_anywhere_ends_the_file_there(put: Callable[[bytes], Path]) -> None:
    """Both checksums are held against what they guard."""
    whole = b"".join(RECORDS)
    ends = np.cumsum([len(one) for one in RECORDS])
    for at in range(len(whole)):
        broken = bytearray(whole)
        broken[at] ^= 1 << at % 8
        before = int(np.searchsorted(ends, at, side="right"))
        assert read_events(put(bytes(broken))).scalars == SCALARS[:before]


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**64 - 16, 2**40, 2**31])
def test_a_length_beyond_the_file_reserves_nothing(
    put: Callable[[bytes], Path], length: int
) -> None:
    header = struct.pack("<Q", length)
    path = put(RECORDS[0] + header + struct.pack("<I", masked_crc32c(header)) + b"x" * 100)
    tracemalloc.start()
    found = read_events(path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert found.scalars == SCALARS[:1]
    assert peak_bytes < 4_000_000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x0b" * 50,
        b"\xff" * 40,
        b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x2a\x05abc",
        b"\x2a\x02\x0a\x7f",
        field(5, b"".join(field(1, b"") for _ in range(100))),
        event(2**63, "loss", 1.0),
        event(1, "", 1.0),
        field(5, field(1, field(1, b"loss") + b"\x10\x05")),
        field(5, field(1, field(1, b"loss") + field(8, b"\x08\x01" + field(4, b"abc")))),
        field(5, field(1, field(1, b"loss") + field(8, b"\x08\x01" + field(5, b"\0" * 8)))),
    ],
)
def test_an_event_that_says_nothing_is_passed_over(
    put: Callable[[bytes], Path], data: bytes
) -> None:
    """Malformed, nested, too many, of a type that is no number: the next event still counts."""
    found = read_events(put(RECORDS[0] + record(data) + RECORDS[1]))

    assert found.scalars == SCALARS[:2]


@pytest.mark.parametrize(
    ("tensor", "value"),
    [
        (b"\x08\x01" + field(4, struct.pack("<f", 1.5)), 1.5),
        (b"\x08\x02" + field(4, struct.pack("<d", 1.5)), 1.5),
        (b"\x08\x13" + field(4, struct.pack("<e", 1.5)), 1.5),
        (b"\x08\x01\x12\x00\x2d" + struct.pack("<f", 1.5), 1.5),
        (b"\x08\x01\x12\x00" + field(5, struct.pack("<f", 1.5)), 1.5),
        (b"\x08\x02\x31" + struct.pack("<d", 1.5), 1.5),
    ],
)
def test_a_tensor_of_one_number_is_one(
    put: Callable[[bytes], Path], tensor: bytes, value: float
) -> None:
    """As TensorFlow 2 (`tensor_content`) and torch (packed or not) write them."""
    named = field(1, b"loss") + field(8, tensor)
    found = read_events(put(record(b"\x10\x07" + field(5, field(1, named)))))

    assert [(one.step, one.value) for one in found.scalars] == [(7, value)]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=6), st.integers(0, 6)), max_size=6),
    st.binary(max_size=80),
)
def test_any_mutation_ends_in_scalars(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, bytes, int]], tail: bytes
) -> None:
    """Also inside records whose checksums are right again: no other error leaves the reader."""
    bodies = [bytearray(event(step, "loss", 1.0)) for step in range(1, 5)]
    for at, put_in, dropped in edits:
        body = bodies[at % len(bodies)]
        place = at % (len(body) + 1)
        body[place : place + dropped] = put_in
    path = tmp_path_factory.getbasetemp() / "events.out.tfevents.2.host"
    path.write_bytes(b"".join(record(bytes(body)) for body in bodies) + tail)

    for found in read_events(path).scalars:
        assert 0 <= found.step < 2**63
        assert isinstance(found.value, float)


def test_the_end_of_a_large_file_is_kept(
    put: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only the end is read, it begins at a whole record, wherever it was cut into."""
    monkeypatch.setattr(tfrecord, "_FEW_RECORDS", 1)
    whole = b"".join(RECORDS)
    starts = np.cumsum([0, *(len(one) for one in RECORDS)])
    path = put(whole)
    for tail_bytes in range(1, len(whole)):
        monkeypatch.setattr(tfrecord, "TAILS_BYTES", (tail_bytes, len(whole)))
        first = int(np.searchsorted(starts, len(whole) - tail_bytes))
        expected = SCALARS[first:] or SCALARS
        found = read_events(path)
        assert (found.scalars, found.is_all) == (expected, first in {0, len(RECORDS)})


def test_numbers_behind_large_records_are_found(
    put: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images at a file's end hide no loss."""
    monkeypatch.setattr(tfrecord, "TAILS_BYTES", (10_000, 100_000, 1_000_000))
    image = record(bytes(60_000))

    assert read_events(put(b"".join(RECORDS) + image + image)).scalars == SCALARS


def test_large_records_are_not_read_into_memory(put: Callable[[bytes], Path]) -> None:
    path = put(b"".join(RECORDS) + record(bytes(7_000_000)))
    tracemalloc.start()
    found = read_events(path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert found.scalars == SCALARS
    assert peak_bytes < 1_000_000


@given(st.lists(st.binary(max_size=40), max_size=60))
def test_checksums_of_many_are_those_of_each(texts: list[bytes]) -> None:
    assert masked_crc32cs(texts).tolist() == [masked_crc32c(text) for text in texts]


def test_checksums_are_those_of_tensorboard() -> None:
    """The writer's own function is the reference."""
    masked = pytest.importorskip(
        "tensorboard.compat.tensorflow_stub.pywrap_tensorflow"
    ).masked_crc32c
    for text in (b"", b"123456789", bytes(32), b"\xff" * 32, bytes(range(256)) * 5):
        assert masked_crc32c(text) == masked(text)


def test_what_tensorboardx_writes_is_read(tmp_path: Path) -> None:
    tensorboardx = pytest.importorskip("tensorboardX")
    writer = tensorboardx.SummaryWriter(str(tmp_path))
    for step in range(5):
        writer.add_scalar("train/loss", 1.0 / (step + 1), step)
    writer.close()
    (path,) = tmp_path.glob("events.*")

    assert [one.value for one in read_events(path).scalars] == [
        float(np.float32(1.0 / (step + 1))) for step in range(5)
    ]
