"""Whatever is done to a file, reading it ends in a value or an InputError."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.errors import InputError

NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63]
NUMBERS += [2**64 - 1, 2**64 - 8]
ODD_VALUES = [
    None, True, -1, 0, 2**31, 2**63 - 1, 2**63, 2**64, 10**400, 1e308, -1e308, 1e-320, math.nan,
    math.inf, "", "x" * 300, "\x00", "\ud800", "\x1b[2J", "../../x", "/etc/passwd", "nan",
    "1" * 5000, "a.safetensors", ".*" * 50, [], {}, [[]], {"": {}}, [None] * 50,
    {"a": {"b": {"c": {"d": {}}}}},
]  # fmt: skip


@st.composite
def edits(draw: st.DrawFn, seed: bytes) -> bytes:
    """Bytes set, numbers overwritten, pieces cut out, doubled, moved, zeroed; the end cut off."""
    raw = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(raw) - 1)))
        count = draw(st.integers(0, 24))
        match draw(st.sampled_from(["set", "number", "cut", "double", "zero", "insert", "end"])):
            case "set":
                raw[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "number":
                width = draw(st.sampled_from([1, 2, 4, 8]))
                number = draw(st.sampled_from(NUMBERS)) % 256**width
                raw[at : at + width] = number.to_bytes(
                    width, draw(st.sampled_from(["little", "big"]))
                )
            case "cut":
                del raw[at : at + count]
            case "double":
                raw[at:at] = raw[at : at + count]
            case "zero":
                raw[at : at + count] = bytes(len(raw[at : at + count]))
            case "insert":
                raw[at:at] = draw(st.binary(max_size=8))
            case "end":
                del raw[at:]
    return bytes(raw)


def replaced(value: object, at: int, odd: object) -> tuple[object, int]:
    """Return JSON in which the value at a place of the walk through it is another."""
    if at == 0:
        return odd, -1
    at -= 1
    if isinstance(value, dict):
        out: dict[object, object] = {}
        for key, inner in value.items():
            out[key], at = replaced(inner, at, odd) if at >= 0 else (inner, at)
        return out, at
    if isinstance(value, list):
        items = []
        for inner in value:
            found, at = replaced(inner, at, odd) if at >= 0 else (inner, at)
            items.append(found)
        return items, at
    return value, at


def read(target, raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as where:
        try:
            target.run(Path(where), raw)
        except InputError as error:
            said = str(error)
        else:
            said = ""
    assert len(said) < 5000, "a message is a sentence"


QUICK = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def test_every_seed_is_what_it_says(target, tmp_path):
    """The files that mutations begin from can be read: else only refusals would be tested."""
    for at, seed in enumerate(target.seeds()):
        root = tmp_path / str(at)
        root.mkdir()
        found = target.run(root, seed)
        assert not getattr(found, "faults", ())


@QUICK
@given(data=st.data())
def test_any_change_of_bytes_ends_in_a_value_or_an_input_error(target, data):
    seed = data.draw(st.sampled_from(list(target.seeds())))
    read(target, data.draw(edits(seed)))


@QUICK
@given(data=st.data())
def test_any_odd_value_in_json_ends_in_a_value_or_an_input_error(target, data):
    """Each value of a description may be of another kind, or of a size that fits nowhere."""
    seed = data.draw(st.sampled_from(list(target.seeds())))
    try:
        content = json.loads(seed)
    except ValueError:
        pytest.skip("this target reads no JSON")
    for _ in range(data.draw(st.integers(1, 3))):
        odd = data.draw(st.sampled_from(ODD_VALUES))
        content, _rest = replaced(content, data.draw(st.integers(0, 40)), odd)
    read(target, json.dumps(content).encode())
