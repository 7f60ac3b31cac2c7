"""Reading a base without its libraries: what cannot be known stays open, what is broken is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sentinel.errors import ConfigError, InputError, MissingMemberError
from sentinel.formats.base import read_base


def nf4(write, state: bytes, **quantization: object) -> Path:
    """A base with one packed weight and the JSON that tells its shape."""
    write.json("base/config.json", {"quantization_config": {"load_in_4bit": True, **quantization}})
    tensors = {
        "m.q.weight": np.zeros((12, 1), "u1"),
        "m.q.weight.absmax": np.ones(1, "f4"),
        "m.q.weight.quant_map": np.ones(16, "f4"),
        "m.q.weight.quant_state.bitsandbytes__nf4": np.frombuffer(state, "u1"),
        "m.norm.weight": np.ones(6, "f2"),
        "m.q.bias": np.ones(6, "f2"),
    }
    return write.tensors("base/model.safetensors", tensors).parent


def test_the_quant_state_tells_the_shape(write) -> None:
    state = json.dumps({"quant_type": "nf4", "shape": [6, 4], "blocksize": 64}).encode()

    base = read_base(nf4(write, state))

    assert {
        (one.module, one.scheme, one.out_features, one.in_features) for one in base.weights
    } == {
        ("m.q", "nf4", 6, 4),
        ("m.norm", "none", 6, None),
    }
    assert (base.scheme, base.compute_dtype) == ("nf4", "fp32")


@pytest.mark.parametrize("state", [b"{", b"[]", b"\xff\xfe", b'{"shape":' + b"[" * 9000])
def test_a_broken_quant_state_is_said(write, state: bytes) -> None:
    with pytest.raises(InputError):
        read_base(nf4(write, state))


@pytest.mark.parametrize("state", [b"{}", b'{"shape": "x"}', b'{"shape": [-1, null]}'])
def test_a_quant_state_without_shape_leaves_it_open(write, state: bytes) -> None:
    weights = {one.module: one for one in read_base(nf4(write, state)).weights}

    assert weights["m.q"].scheme == "nf4"
    assert (weights["m.q"].out_features, weights["m.q"].in_features) == (None, None)


def test_a_packing_nobody_knows_has_no_shape(write) -> None:
    """Comparing an adapter with the packed shape would be a false alarm."""
    write.json("base/config.json", {"quantization_config": {"quant_method": "newest"}})
    path = write.tensors("base/model.safetensors", {"m.q.weight": np.zeros((9, 1), "u1")}).parent

    base = read_base(path)

    assert base.scheme == "newest"
    assert (base.weights[0].scheme, base.weights[0].out_features) == ("newest", None)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"dtype": "bfloat16"}, "bf16"),
        ({"torch_dtype": "float16"}, "fp16"),
        ({"dtype": "torch.float32"}, "fp32"),
        ({"dtype": "int3"}, None),
        ({}, None),
        ({"dtype": 7}, None),
    ],
)
def test_the_compute_dtype_of_an_unpacked_base(write, config: dict, expected: str | None) -> None:
    write.json("base/config.json", config)
    path = write.tensors("base/model.safetensors").parent

    assert read_base(path).compute_dtype == expected


def test_what_is_no_base_is_said(write) -> None:
    write.json("empty/config.json", {})
    (write.root / "bare").mkdir()
    write.tensors("torn/model.safetensors")
    write.json("torn/config.json", {})
    (write.root / "torn/model.safetensors").write_bytes(b"torn")

    with pytest.raises(ConfigError, match="no directory"):
        read_base(write.root / "none")
    with pytest.raises(MissingMemberError, match=r"no model\.safetensors"):
        read_base(write.root / "empty")
    with pytest.raises(MissingMemberError):
        read_base(write.root / "bare")
    with pytest.raises(InputError):
        read_base(write.root / "torn")


def test_a_single_file_is_a_base(write) -> None:
    """Image trainers name one file of weights; nothing beside it describes it."""
    path = write.tensors("flux.safetensors", {"blocks.0.q.weight": np.zeros((6, 4), "f2")})

    base = read_base(path)

    assert [(one.module, one.out_features, one.in_features) for one in base.weights] == [
        ("blocks.0.q", 6, 4)
    ]
    assert (base.scheme, base.compute_dtype) == ("none", None)


def test_a_pipeline_is_a_base_of_several_parts(write) -> None:
    """Modules carry their component's name; the denoiser tells what is computed in."""
    write.json("pipe/model_index.json", {"_class_name": "FluxPipeline"})
    for part, stem, dtype in (
        ("text_encoder", "model", "float16"),
        ("transformer", "diffusion_pytorch_model", "bfloat16"),
    ):
        write.json(f"pipe/{part}/config.json", {"dtype": dtype})
        write.tensors(f"pipe/{part}/{stem}.safetensors", {"q.weight": np.zeros((6, 4), "f2")})
    write.json("pipe/scheduler/scheduler_config.json", {})

    base = read_base(write.root / "pipe")

    assert [one.module for one in base.weights] == ["transformer.q", "text_encoder.q"]
    assert base.compute_dtype == "bf16"
    assert all(
        (base.path / one.stored.member).is_file() for one in base.weights if one.stored is not None
    )
