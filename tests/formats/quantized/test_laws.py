"""Whatever lies under the names of a scheme's parts: an answer, or the refusal of an input."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from sentinel.checkpoint import Tensor
from sentinel.dtypes import DTYPES
from sentinel.errors import InputError
from sentinel.formats.quantized.registry import SCHEMES, split_key, unpack
from sentinel.formats.quantized.stored import Description, Stored

PARTS = sorted(frozenset().union(*(scheme.PARTS for scheme in SCHEMES)))
SMALL = st.integers(0, 9) | st.sampled_from([16, 32, 64, 96, 128, 2**31, 2**62])
DTYPE = st.sampled_from([*DTYPES, "C32", "Q4"])  # torch knows more than safetensors
SHAPES = st.lists(SMALL, max_size=4).map(tuple)
LEAVES = st.none() | st.booleans() | st.integers(-2, 2**64) | st.text(max_size=8) | st.floats()
SETTINGS = st.dictionaries(
    st.sampled_from(["bits", "group_size", "version", "config_groups", "quant_method", "nbits"]),
    LEAVES | st.dictionaries(st.text(max_size=2), st.dictionaries(st.text(max_size=3), LEAVES)),
)
METHODS = st.sampled_from([None, "gptq", "awq", "modelopt", "compressed-tensors", "newest"])
MODEL = st.dictionaries(
    st.sampled_from(["hidden_size", "num_attention_heads", "head_dim", "intermediate_size"]), LEAVES
)


@st.composite
def modules(draw: st.DrawFn) -> Stored:
    """One module with any tensors under the parts' names, and any description."""
    parts = {
        part: Tensor(part, "model.safetensors", draw(DTYPE), draw(SHAPES), 0, 0)
        for part in draw(st.lists(st.sampled_from(PARTS), max_size=6, unique=True))
    }
    text = draw(st.binary(max_size=24) | st.just(json.dumps({"shape": [2, 3]}).encode()))
    described = draw(st.text(max_size=20) | st.just(json.dumps({"_type": "Int4Tensor"})))
    name = draw(st.sampled_from(["m.q_proj", "m.down_proj", "m"]))
    return Stored(
        module=name,
        parts=parts,
        description=Description(draw(METHODS), draw(SETTINGS), None, draw(MODEL)),
        read=lambda _tensor: text,
        metadata=lambda _tensor: {f"{name}.weight": described},
        values=draw(st.dictionaries(st.sampled_from(["shape", "nbits", "compute_dtype"]), LEAVES)),
    )


@given(modules())
def test_any_module_has_an_answer_or_is_refused(stored: Stored) -> None:
    """A shape is counted, never negative; the tensor is one of the module's own."""
    with suppress(InputError):
        packed = unpack(stored)
        if packed is not None:
            assert packed.tensor in stored.parts.values()
            assert all(extent is None or extent >= 0 for extent in packed.shape)
            assert packed.compute_dtype in {None, "fp32", "fp16", "bf16"}
            assert packed.scheme


@given(st.text(max_size=40))
@example("weight")
@example(".weight")
@example("base_model.model.")
def test_any_key_is_split(key: str) -> None:
    module, part = split_key(key)
    assert part in PARTS
    assert len(module) + len(part) <= len(key)


def test_codes_nobody_knows_keep_their_module() -> None:
    """So that an adapter on it is not told that its module is missing."""
    parts: dict[str, Any] = {"qweight": Tensor("m.q.qweight", "f", "U8", (4, 9), 0, 36)}
    stored = Stored("m.q", parts, Description(), lambda _: b"", lambda _: {})

    packed = unpack(stored)

    assert packed is not None
    assert (packed.scheme, packed.shape) == ("unknown", (None, None))
