"""A tensor in pieces gives the same numbers as the whole one, wherever the pieces lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.checkpoint import Checkpoint, Member, Piece, Tensor
from sentinel.stats import bands, gram
from sentinel.stats.bands import in_rows, read_band
from sentinel.stats.comparison import compare
from sentinel.stats.measure import measure
from sentinel.stats.reading import MemberFile

CUTS = st.lists(st.integers(1, 8), unique=True, max_size=3).map(sorted)


def write(root: Path, name: str, values: np.ndarray, cuts: list[list[int]]) -> Tensor:
    """Lay a grid of pieces into two files, with other bytes between them."""
    edges = [[0, *(c for c in own if c < n), n] for own, n in zip(cuts, values.shape, strict=True)]
    pieces = []
    files = [bytearray(b"xyz"), bytearray(b"")]
    grid = np.ndindex(*(len(own) - 1 for own in edges))
    for number, cell in enumerate(grid):
        spans = [(own[at], own[at + 1]) for own, at in zip(edges, cell, strict=True)]
        part = values[tuple(slice(*span) for span in spans)]
        raw = files[number % 2]
        place, shape = tuple(low for low, _ in spans), part.shape
        pieces.append(Piece(f"{name}.{number % 2}", len(raw), part.nbytes, place, shape))
        raw += part.tobytes() + b"between"
    for number, raw in enumerate(files):
        (root / f"{name}.{number}").write_bytes(raw)
    pieces.sort(key=lambda piece: piece.place)
    first = pieces[0]
    role = "lora_up" if name == "up" else "lora_down"
    return Tensor(
        name, first.member, "F32", values.shape, first.offset, values.nbytes,
        role=role, module="m", family="lora", pieces=tuple(pieces),
    )  # fmt: skip


def checkpoint(root: Path, *tensors: Tensor) -> Checkpoint:
    members = []
    for name in sorted({piece.member for one in tensors for piece in one.boxes}):
        status = (root / name).stat()
        found = (status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino)
        members.append(Member(name, "weights", *found))
    return Checkpoint(root, "dcp", None, None, None, None, None, tuple(members), tensors)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), shape=st.lists(st.integers(1, 9), min_size=2, max_size=3))
def test_a_band_is_the_same_from_pieces(tmp_path, data, shape):
    """On both axes, for every grid of pieces in several files."""
    values = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    tensor = write(tmp_path, "w", values, [data.draw(CUTS) for _ in shape])
    axis = data.draw(st.integers(0, 1))
    start = data.draw(st.integers(0, shape[axis] - 1))
    count = data.draw(st.integers(1, shape[axis] - start))

    def member(name: str) -> MemberFile:
        return MemberFile(tmp_path / name)

    band = read_band(tensor, member, axis=axis, start=start, count=count)
    rows = [block.tobytes() for block in in_rows(tensor, member, np.empty(12, np.uint8))]

    wanted = np.take(values, range(start, start + count), axis)
    assert band.view("f4")[..., 0].tolist() == wanted.tolist()
    assert b"".join(rows) == values.tobytes()


@pytest.mark.parametrize("cuts", [[[], []], [[3], []], [[], [3]], [[2, 5], [1, 4]]])
@pytest.mark.parametrize("band_bytes", [16, 8 << 20])
def test_moments_and_the_norm_of_the_product_do_not_know_of_pieces(
    tmp_path, monkeypatch, cuts, band_bytes
):
    monkeypatch.setattr(gram, "_BAND_ELEMENTS", band_bytes // 8)
    draw = np.random.default_rng(0)
    up, down = draw.normal(size=(9, 6)).astype("f4"), draw.normal(size=(6, 8)).astype("f4")
    down[2, 1] = 0
    one = write(tmp_path, "up", up, cuts)
    two = write(tmp_path, "down", down, cuts)

    measured = measure(checkpoint(tmp_path, one, two), digest=True)

    (pair,) = measured.pairs.to_pylist()
    assert pair["norm"] == pytest.approx(np.linalg.norm(up.astype("f8") @ down), rel=1e-6)
    rows = {row["tensor"]: row for row in measured.tensors.to_pylist()}
    assert rows["down"]["zero_count"] == 1
    assert rows["up"]["l2"] == pytest.approx(np.linalg.norm(up.astype("f8")), rel=1e-6)
    assert rows["up"]["numel"] == 54


def test_rows_in_pieces_have_the_digest_of_the_whole(tmp_path):
    """So that a checkpoint of another number of ranks is still known to be the same."""
    values = np.arange(40, dtype="f4").reshape(8, 5)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = write(tmp_path / "a", "up", values, [[], []])
    parts = write(tmp_path / "b", "up", values, [[3, 6], []])

    digests = [
        measure(checkpoint(tmp_path / name, one), digest=True).tensors["digest"].to_pylist()
        for name, one in (("a", whole), ("b", parts))
    ]

    assert digests[0] == digests[1]


def test_differently_sharded_tensors_are_compared_element_by_element(tmp_path, monkeypatch):
    monkeypatch.setattr(bands, "BAND_BYTES", 24)
    values = np.arange(40, dtype="f4").reshape(8, 5)
    changed = values.copy()
    changed[6, 1] = -1
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    whole = checkpoint(tmp_path / "a", write(tmp_path / "a", "up", values, [[], []]))
    columns = checkpoint(tmp_path / "b", write(tmp_path / "b", "up", values, [[], [2]]))
    other = checkpoint(tmp_path / "c", write(tmp_path / "c", "up", changed, [[3, 5], [1, 4]]))

    assert compare(whole, columns).tensors[0].is_identical
    (pair,) = compare(columns, other).tensors
    assert pair.difference is not None
    assert pair.difference.identical_count == 39
    assert pair.difference.largest == 32
