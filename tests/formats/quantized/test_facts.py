"""Every scheme by the shapes that its library's source gives its buffers.

The weight behind each of them is [96, 256]: 96 outputs, 256 inputs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest

from sentinel.checkpoint import Base
from sentinel.errors import InputError

Reader = Callable[..., Base]

OUT, IN, GROUP = 96, 256, 64


def i32(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": GROUP}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm"}
CT = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}},
}
GPTQ_TENSORS = {
    "m.q.qweight": ("I32", (IN // 8, OUT)),
    "m.q.qzeros": ("I32", (IN // GROUP, OUT // 8)),
    "m.q.scales": ("F16", (IN // GROUP, OUT)),
    "m.q.g_idx": ("I32", (IN,)),
}

CASES: dict[str, tuple[Mapping[str, tuple], Mapping[str, object] | None, str, str | None]] = {
    "gptq": (GPTQ_TENSORS, GPTQ, "gptq-int4", "fp16"),
    "gptq without g_idx": (
        {key: value for key, value in GPTQ_TENSORS.items() if not key.endswith("g_idx")},
        GPTQ,
        "gptq-int4",
        "fp16",
    ),
    "gptq undescribed": (GPTQ_TENSORS, None, "gptq-int4", "fp16"),
    "gptq of 3 bits": (
        {"m.q.qweight": ("I32", (IN * 3 // 32, OUT)), "m.q.scales": ("F16", (4, OUT))},
        {**GPTQ, "bits": 3},
        "gptq-int3",
        "fp16",
    ),
    "gptq of 8 bits": (
        {"m.q.qweight": ("I32", (IN // 4, OUT)), "m.q.scales": ("F16", (4, OUT))},
        {**GPTQ, "bits": 8},
        "gptq-int8",
        "fp16",
    ),
    "gptq for marlin": (
        {"m.q.B": ("I32", (IN // 16, OUT * 2)), "m.q.s": ("F16", (4, OUT))},
        {**GPTQ, "checkpoint_format": "marlin"},
        "gptq-int4",
        "fp16",
    ),
    "awq gemm": (
        {
            "m.q.qweight": ("I32", (IN, OUT // 8)),
            "m.q.qzeros": ("I32", (IN // GROUP, OUT // 8)),
            "m.q.scales": ("F16", (IN // GROUP, OUT)),
        },
        AWQ,
        "awq-int4",
        "fp16",
    ),
    "awq gemv": (
        {
            "m.q.qweight": ("I32", (OUT, IN // 8)),
            "m.q.qzeros": ("I32", (OUT, 2)),
            "m.q.scales": ("F16", (OUT, 16)),
        },
        {**AWQ, "version": "gemv"},
        "awq-int4",
        "fp16",
    ),
    "awq gemv_fast": (
        {
            "m.q.qweight": ("I16", (OUT // 4, IN)),
            "m.q.scales": ("F16", (16, OUT)),
            "m.q.scaled_zeros": ("F16", (16, OUT)),
        },
        {**AWQ, "version": "gemv_fast"},
        "awq-int4",
        "fp16",
    ),
    "awq marlin": (
        {"m.q.qweight": ("I32", (IN // 16, OUT * 2)), "m.q.scales": ("F16", (4, OUT))},
        {**AWQ, "version": "marlin"},
        "awq-int4",
        "fp16",
    ),
    "fp8 in blocks": (
        {"m.q.weight": ("F8_E4M3", (OUT, IN)), "m.q.weight_scale_inv": ("F32", (1, 2))},
        {"quant_method": "fp8", "weight_block_size": [128, 128]},
        "fp8",
        "bf16",
    ),
    "fp8 a tensor": (
        {"m.q.weight": ("F8_E4M3", (OUT, IN)), "m.q.weight_scale": ("F32", ())},
        {"quant_method": "compressed-tensors", "format": "float-quantized"},
        "fp8",
        "bf16",
    ),
    "fbgemm": (
        {"m.q.weight": ("F8_E4M3", (OUT, IN)), "m.q.weight_scale": ("F32", (OUT, 1))},
        {"quant_method": "fbgemm_fp8"},
        "fp8",
        "bf16",
    ),
    "comfy fp8": (
        {"m.q.weight": ("F8_E4M3", (OUT, IN)), "m.q.scale_weight": ("F32", ())},
        None,
        "fp8",
        "bf16",
    ),
    "compressed-tensors packed": (
        {
            "m.q.weight_packed": ("I32", (OUT, IN // 8)),
            "m.q.weight_scale": ("BF16", (OUT, IN // 128)),
            "m.q.weight_shape": ("I32", (2,), i32(OUT, IN)),
        },
        CT,
        "compressed-tensors-int4",
        None,
    ),
    "compressed-tensors packed without shape": (
        {"m.q.weight_packed": ("I32", (OUT, IN // 8)), "m.q.weight_scale": ("BF16", (OUT, 2))},
        CT,
        "compressed-tensors-int4",
        None,
    ),
    "compressed-tensors int8": (
        {"m.q.weight": ("I8", (OUT, IN)), "m.q.weight_scale": ("BF16", (OUT, 1))},
        {"quant_method": "compressed-tensors", "format": "int-quantized"},
        "compressed-tensors-int8",
        None,
    ),
    "compressed-tensors nvfp4": (
        {
            "m.q.weight_packed": ("U8", (OUT, IN // 2)),
            "m.q.weight_scale": ("F8_E4M3", (OUT, IN // 16)),
            "m.q.weight_global_scale": ("F32", (1,)),
        },
        {**CT, "format": "nvfp4-pack-quantized"},
        "nvfp4",
        None,
    ),
    "compressed-tensors mxfp4": (
        {
            "m.q.weight_packed": ("U8", (OUT, IN // 2)),
            "m.q.weight_scale": ("U8", (OUT, IN // 32)),
        },
        {**CT, "format": "mxfp4-pack-quantized"},
        "mxfp4",
        None,
    ),
    "modelopt or comfy nvfp4": (
        {
            "m.q.weight": ("U8", (OUT, IN // 2)),
            "m.q.weight_scale": ("F8_E4M3", (OUT, IN // 16)),
            "m.q.weight_scale_2": ("F32", ()),
        },
        None,
        "nvfp4",
        "bf16",
    ),
    "gpt-oss": (
        {"m.q_blocks": ("U8", (4, OUT, IN // 32, 16)), "m.q_scales": ("U8", (4, OUT, IN // 32))},
        {"quant_method": "mxfp4"},
        "mxfp4",
        "bf16",
    ),
    "bitsandbytes in bfloat16 words": (
        {
            "m.q.weight": ("BF16", (OUT * IN // 4, 1)),
            "m.q.weight.absmax": ("U8", (OUT * IN // 64,)),
            "m.q.weight.quant_state.bitsandbytes__nf4": (
                "U8",
                (41,),
                json.dumps({"quant_type": "nf4", "shape": [OUT, IN]}).encode(),
            ),
        },
        {
            "quant_method": "bitsandbytes",
            "load_in_4bit": True,
            "bnb_4bit_quant_storage": "bfloat16",
        },
        "nf4",
        "fp32",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_unpacked_shape_is_told(read: Reader, case: str) -> None:
    """Out, in, scheme and compute dtype; a norm beside it is a plain weight."""
    tensors, quantization, scheme, compute_dtype = CASES[case]

    base = read({**tensors, "m.norm.weight": ("BF16", (IN,))}, quantization)

    weights = {one.module: one for one in base.weights}
    packed = weights["m.q"]
    assert (packed.out_features, packed.in_features) == (OUT, IN)
    assert (packed.scheme, base.scheme, base.compute_dtype) == (scheme, scheme, compute_dtype)
    assert (weights["m.norm"].scheme, weights["m.norm"].out_features) == ("none", IN)
    assert weights.keys() == {"m.q", "m.norm"}


def test_the_model_names_the_precision_where_the_scheme_leaves_it_open(read: Reader) -> None:
    tensors, quantization, *_ = CASES["compressed-tensors packed"]

    assert read(tensors, quantization, dtype="bfloat16").compute_dtype == "bf16"


@pytest.mark.parametrize("name", ["quantize_config.json", "quant_config.json"])
def test_a_description_in_a_file_of_its_own(read: Reader, name: str) -> None:
    tensors, *_ = CASES["gptq of 8 bits"]

    base = read(tensors, files={name: {"bits": 8, "group_size": GROUP}})

    assert (base.scheme, base.weights[0].in_features) == ("gptq-int8", IN)


def test_modelopt_says_it_beside_the_model(read: Reader) -> None:
    """Without packed weights the description alone tells what the base is."""
    described = {"quantization": {"quant_algo": "NVFP4", "group_size": 16}}

    base = read({"m.norm.weight": ("BF16", (8,))}, files={"hf_quant_config.json": described})

    assert base.scheme == "modelopt"


@pytest.mark.parametrize(
    "key",
    [
        "base_model.model.m.q.base_layer.weight",
        "_orig_mod.m.q.weight",
        "module.m.q.weight",
        "m.q.base_layer.weight",
        "_fsdp_wrapped_module.m.q.weight",
    ],
)
def test_wrappers_are_no_part_of_a_module(read: Reader, key: str) -> None:
    base = read({key: ("F32", (OUT, IN)), "m.q.lora_A.default.weight": ("F32", (8, IN))})

    assert [(one.module, one.tensor) for one in base.weights] == [("m.q", key)]


@pytest.mark.parametrize(
    ("tensors", "quantization"),
    [
        ({"m.q.qweight": ("I32", (0, 0)), "m.q.scales": ("F16", (0, 0))}, AWQ),
        ({"m.q.qweight": ("I32", (5, 7)), "m.q.scales": ("F16", (3, 11))}, AWQ),
        ({"m.q.qweight": ("I32", ())}, {**GPTQ, "bits": 0}),
        ({"m.q.qweight": ("I32", (8, 8))}, {**GPTQ, "bits": "x" * 90}),
        ({"m.q.weight_packed": ("I32", (8, 8))}, {**CT, "config_groups": [1]}),
        ({"m.q.weight_packed": ("I32", ()), "m.q.weight_shape": ("F32", (2,))}, CT),
        ({"m.q.weight_packed": ("I32", (2, 2)), "m.q.weight_shape": ("I64", (0,))}, CT),
        ({"m.q.weight._data._data": ("U8", (0, 0)), "m.q.weight._scale": ("F32", (9, 1))}, None),
        ({"m.q.weight._data._data": ("U8", (3,)), "m.q.weight._scale": ("F32", ())}, None),
        ({"m.q.W_q": ("U8", (2, 2)), "m.q.shape": ("I64", (3,)), "m.q.nbits": ("F32", ())}, None),
        ({"m.q._weight_qdata": ("U8", (2, 2))}, None),
    ],
)
def test_what_makes_no_sense_has_no_shape(
    read: Reader, tensors: Mapping[str, tuple], quantization: Mapping[str, object] | None
) -> None:
    """Nothing raises, and a shape is either whole or a count that the header really gives."""
    for weight in read(tensors, quantization).weights:
        known = {weight.out_features, weight.in_features} - {None}
        assert all(extent >= 0 for extent in known)


def test_a_text_that_is_too_long_is_refused(read: Reader) -> None:
    """A small tensor is bounded before it is read."""
    tensors, quantization, *_ = CASES["compressed-tensors packed"]
    with pytest.raises(InputError, match="for a short text"):
        read({**tensors, "m.q.weight_shape": ("I64", (2**14,))}, quantization)


@pytest.mark.parametrize("described", ["{", "[]", "null", '{"_data": 3}', "[" * 9000])
def test_torchao_with_a_broken_description(read: Reader, described: str) -> None:
    base = read({"m.q._weight_qdata": ("U8", (4, 4))}, metadata={"m.q.weight": described})

    assert (base.weights[0].out_features, base.weights[0].in_features) == (None, None)
