"""Models packed by libraries that want an environment of their own.

The scripts in `probes/` run them and keep what they wrote: keys, dtypes, shapes and descriptions,
in `facts/`. Here the same files are made of zeros.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentinel.checkpoint import Base

FACTS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "facts").glob("*.json"))
}

SCHEMES: dict[tuple[str, str], tuple[str, str | None]] = {
    ("autoawq", "gemm"): ("awq-int4", "fp16"),
    ("autoawq", "gemv"): ("awq-int4", "fp16"),
    ("autoawq", "gemv_fast"): ("awq-int4", "fp16"),
    ("gptqmodel", "gptq-2"): ("gptq-int2", "bf16"),
    ("gptqmodel", "gptq-3"): ("gptq-int3", "bf16"),
    ("gptqmodel", "gptq-4"): ("gptq-int4", "bf16"),
    ("gptqmodel", "gptq-8"): ("gptq-int8", "bf16"),
    ("gptqmodel", "gptq-v2"): ("gptq-int4", "bf16"),
    ("gptqmodel", "gptq-planar-3"): ("gptq-int3", "bf16"),
    ("gptqmodel", "gptq-dynamic"): ("gptq-int4+gptq-int8", "bf16"),
    ("gptqmodel", "gptq-act-order"): ("gptq-int4", "bf16"),
    ("gptqmodel", "awq-under-gptq"): ("awq-int4", "fp16"),
    ("gptqmodel", "awq"): ("awq-int4", "bf16"),
    ("gptqmodel", "qqq"): ("qqq-int4", "bf16"),
    ("gptqmodel", "fp8"): ("fp8", "bf16"),
    ("gptqmodel", "bitsandbytes-4"): ("fp4", "fp32"),
    ("gptqmodel", "bitsandbytes-8"): ("int8", "bf16"),
    ("gptqmodel", "gguf-4"): ("gguf", "bf16"),
    ("modelopt", "NVFP4_DEFAULT_CFG"): ("nvfp4", "bf16"),
    ("modelopt", "FP8_DEFAULT_CFG"): ("fp8", "bf16"),
    ("modelopt", "FP8_2D_BLOCKWISE_WEIGHT_ONLY_CFG"): ("fp8", "bf16"),
    ("modelopt", "INT8_DEFAULT_CFG"): ("modelopt-int8", "bf16"),
    ("modelopt", "INT4_AWQ_CFG"): ("modelopt-int4", "bf16"),
    ("modelopt", "INT4_BLOCKWISE_WEIGHT_ONLY_CFG"): ("modelopt-int4", "bf16"),
    ("modelopt", "W4A8_AWQ_BETA_CFG"): ("modelopt-int4", "bf16"),
    ("modelopt", "MXFP4_DEFAULT_CFG"): ("mxfp4", "bf16"),
}
HIDDEN = {("gptqmodel", "gguf-4")}
"""Blocks of GGUF in safetensors: their shape is open, their modules are there."""


PAGE = Path(__file__).parents[3] / "docs" / "formats.md"


def test_the_page_names_the_versions_that_wrote() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert all(facts["writer"] in page for facts in FACTS.values())


def test_every_case_is_expected() -> None:
    assert SCHEMES.keys() == {
        (writer, case) for writer, facts in FACTS.items() for case in facts["cases"]
    }


@pytest.mark.parametrize(("writer", "case"), SCHEMES)
def test_the_unpacked_shapes(read: Callable[..., Base], writer: str, case: str) -> None:
    """Every weight has the shape it had before it was packed."""
    facts = FACTS[writer]
    written = facts["cases"][case]
    tensors = {
        key: spec_of(spec, written["texts"].get(key)) for key, spec in written["tensors"].items()
    }

    base = read(tensors, files=written["files"], **written["config"])

    found = {one.module: (one.out_features, one.in_features) for one in base.weights}
    packed = {one.module for one in base.weights if one.scheme != "none"}
    expected = {module: shape_of(shape) for module, shape in facts["plain"].items()}
    if (writer, case) in HIDDEN:
        expected |= dict.fromkeys(packed, (None, None))
    assert found == expected
    assert (base.scheme, base.compute_dtype) == SCHEMES[writer, case]
    assert len(packed) == 7


@pytest.mark.trainer
@pytest.mark.parametrize(("writer", "case"), sorted(SCHEMES.keys() - HIDDEN))
def test_a_healthy_adapter_is_quiet(
    read: Callable[..., Base], said: Callable[[Path], set[str]], writer: str, case: str
) -> None:
    written = FACTS[writer]["cases"][case]
    tensors = {
        key: spec_of(spec, written["texts"].get(key)) for key, spec in written["tensors"].items()
    }

    base = read(tensors, files=written["files"], **written["config"])

    assert said(base.path) == set()


def spec_of(spec: str, text: str | None) -> tuple[Any, ...]:
    dtype, *extents = spec.split()
    known = (dtype, tuple(map(int, extents)))
    return known if text is None else (*known, bytes.fromhex(text))


def shape_of(text: str) -> tuple[int | None, int | None]:
    rows, *columns = map(int, text.split())
    return rows, columns[0] if columns else None
