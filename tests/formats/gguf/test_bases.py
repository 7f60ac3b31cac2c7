"""A GGUF model under an adapter: its weights unpacked in shape, its modules under both names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sentinel
from sentinel.errors import ConfigError, InputError, MissingMemberError
from sentinel.formats.base import read_base
from sentinel.stats.base_norms import BaseNorms

ABOUT_THE_BASE = {
    "adapter-keys-mismatch-base",
    "adapter-shape-mismatch-base",
    "base-quantization-changed",
    "dtype-mismatch-base",
    "norm-explosion",
}
HF = {"attn_q": "self_attn.q_proj", "attn_v": "self_attn.v_proj", "ffn_down": "mlp.down_proj"}


def told(adapter: Path, base: Path) -> dict[str, tuple[str, str]]:
    (judgement,) = sentinel.scan(adapter, base=base, settle_s=0)
    return {
        found.rule: (found.severity, found.message)
        for found in judgement.verdict.findings
        if found.rule in ABOUT_THE_BASE
    }


def matrices(weights: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {
        name: values.shape
        for name, values in weights.items()
        if name.startswith("blk.") and values.ndim > 1
    }


def peft_adapter(write, weights: dict[str, np.ndarray], rank: int = 4) -> Path:
    """An adapter of PEFT's on the matrices of the layers."""
    random = np.random.default_rng(0)
    tensors = {}
    for name, (outputs, inputs) in matrices(weights).items():
        _blk, layer, kind, _weight = name.split(".")
        module = f"base_model.model.model.layers.{layer}.{HF[kind]}"
        up = random.normal(0, 1e-3, (outputs, rank))
        tensors[f"{module}.lora_A.weight"] = random.uniform(-0.1, 0.1, (rank, inputs)).astype("f4")
        tensors[f"{module}.lora_B.weight"] = up.astype("f4")
    write.tensors("adapter/adapter_model.safetensors", tensors)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 8}
    return write.json("adapter/adapter_config.json", config).parent


def gguf_adapter(writing, weights: dict[str, np.ndarray], rank: int = 4) -> Path:
    random = np.random.default_rng(0)
    pairs = {
        name: (random.uniform(-0.1, 0.1, (rank, inputs)), random.normal(0, 1e-3, (outputs, rank)))
        for name, (outputs, inputs) in matrices(weights).items()
    }
    return writing.lora("adapter.gguf", pairs)


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0"])
def test_weights_have_their_logical_shapes(writing, weights, kind: str) -> None:
    base = read_base(writing.model("m.gguf", weights, kind=kind))

    found = {one.module: one for one in base.weights}
    for name, values in weights.items():
        one = found[name.removesuffix(".weight")]
        assert (one.out_features, one.in_features) == (*values.shape, None)[:2]
        packed = kind != "F16" and values.ndim > 1
        assert one.scheme == (f"gguf-{kind.lower()}" if packed else "none")
    assert base.scheme == ("none" if kind == "F16" else f"gguf-{kind.lower()}")
    assert base.compute_dtype is None


def test_a_base_may_be_split_or_alone_in_its_directory(writing, weights) -> None:
    first = writing.model("m.gguf", weights, kind="Q8_0", split=3)

    assert len(read_base(first).weights) == len(weights)
    assert read_base(writing.root).weights == read_base(first).weights
    writing.model("other.gguf", weights)
    with pytest.raises(ConfigError, match=r"holds 2 GGUF models, 'm-00001-of-00004\.gguf' and"):
        read_base(writing.root)
    (writing.root / "m-00002-of-00004.gguf").unlink()
    with pytest.raises(MissingMemberError):
        read_base(first)
    first.write_bytes(b"GGUF")
    with pytest.raises(InputError):
        read_base(first)


def test_stacked_experts_have_the_shape_of_one(writing) -> None:
    path = writing.model("m.gguf", {"blk.0.ffn_up_exps.weight": np.ones((8, 32, 64))})

    (one,) = read_base(path).weights

    assert (one.out_features, one.in_features) == (32, 64)


def test_an_image_model_tells_the_shapes_that_ggml_cannot_hold(writing) -> None:
    """As ComfyUI-GGUF writes them: flattened, the shape in the metadata."""
    gguf = writing.gguf
    writer = gguf.GGUFWriter(writing.root / "flux.gguf", "flux")
    writer.add_array("comfy.gguf.orig_shape.img_in.weight", [48, 10])
    writer.add_array("comfy.gguf.orig_shape.odd.weight", [7, 7])
    for name in ("img_in.weight", "odd.weight"):
        packed = gguf.quants.quantize(np.ones((15, 32), "f4"), gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    path = writing.finish(writer)

    found = {one.module: (one.out_features, one.in_features) for one in read_base(path).weights}

    assert found == {"img_in": (48, 10), "odd": (15, 32)}


@pytest.mark.parametrize("kind", ["F16", "Q4_0"])
def test_a_peft_adapter_on_its_packed_base_is_quiet(write, writing, weights, kind: str) -> None:
    adapter = peft_adapter(write, weights)
    base = writing.model("m.gguf", weights, kind=kind)
    (judgement,) = sentinel.scan(adapter, base=base, settle_s=0)

    assert told(adapter, base) == {}
    asked = {one.rule for one in judgement.verdict.not_evaluated}
    assert not asked & {"adapter-keys-mismatch-base", "adapter-shape-mismatch-base"}


def test_a_gguf_adapter_on_either_kind_of_base_is_quiet(write, writing, weights) -> None:
    adapter = gguf_adapter(writing, weights)
    base = writing.model("m.gguf", weights, kind="Q4_0")
    names = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
    }
    for name in weights:
        if name.startswith("blk."):
            _blk, layer, kind, _weight = name.split(".")
            names[name] = f"model.layers.{layer}.{HF.get(kind, 'input_layernorm')}.weight"
    hf = {names[name]: values.astype("f4") for name, values in weights.items()}
    plain = write.tensors("hf/model.safetensors", hf).parent
    write.json("hf/config.json", {})

    assert told(adapter, base) == {}
    assert told(adapter, plain) == {}
    (judgement,) = sentinel.scan(adapter, base=plain, settle_s=0)
    asked = {one.rule for one in judgement.verdict.not_evaluated}
    assert not asked & {"adapter-keys-mismatch-base", "adapter-shape-mismatch-base"}


@pytest.mark.parametrize("adapter_of", ["peft", "gguf"])
def test_fewer_layers_are_told(write, writing, weights, adapter_of: str) -> None:
    adapter = peft_adapter(write, weights) if adapter_of == "peft" else None
    adapter = adapter or gguf_adapter(writing, weights)
    base = writing.model(
        "m.gguf",
        {name: values for name, values in weights.items() if not name.startswith("blk.1.")},
    )

    severity, message = told(adapter, base)["adapter-keys-mismatch-base"]

    assert severity == "warning"
    assert "the base has 3 of the adapter's 6 modules" in message
    assert ("llama.cpp refuses" in message) == (adapter_of == "gguf")


@pytest.mark.parametrize("adapter_of", ["peft", "gguf"])
def test_another_size_is_told(write, writing, weights, adapter_of: str) -> None:
    adapter = peft_adapter(write, weights) if adapter_of == "peft" else None
    adapter = adapter or gguf_adapter(writing, weights)
    larger = {name: np.tile(values, (2,) * values.ndim) for name, values in weights.items()}
    base = writing.model("m.gguf", larger, kind="Q8_0")

    severity, message = told(adapter, base)["adapter-shape-mismatch-base"]

    assert severity == "warning"
    assert "6 of 6 adapter modules do not fit the base" in message


def test_another_architecture_is_told(write, writing, weights) -> None:
    adapter = peft_adapter(write, weights)
    base = writing.model("m.gguf", {"blk.0.attn_qkv.weight": np.ones((96, 32))})

    assert "has 0 of the adapter's 6" in told(adapter, base)["adapter-keys-mismatch-base"][1]


def test_the_norm_of_an_unpacked_base_is_known(writing, weights) -> None:
    """So that the share of a change can be told; of packed weights it cannot."""
    plain = read_base(writing.model("m.gguf", weights))
    packed = read_base(writing.model("q.gguf", weights, kind="Q8_0"))

    norms = BaseNorms().measure(plain, {"blk.0.attn_q", "blk.1.ffn_down"})

    assert norms.keys() == {"blk.0.attn_q", "blk.1.ffn_down"}
    for module, found in norms.items():
        assert found.norm == pytest.approx(np.linalg.norm(weights[f"{module}.weight"]), rel=1e-6)
    assert BaseNorms().measure(packed, {"blk.0.attn_q"}) == {}
