"""Models that compressed-tensors' own compressor packed, one for each of its presets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.trainer
torch = pytest.importorskip("torch")
quantization = pytest.importorskip("compressed_tensors.quantization")
compressors = pytest.importorskip("compressed_tensors.compressors")
utils = pytest.importorskip("compressed_tensors.quantization.utils")

PRESETS = {
    **{f"W{bits}A16": f"compressed-tensors-int{bits}" for bits in range(2, 9)},
    "W4A16_ASYM": "compressed-tensors-int4",
    "W8A8": "compressed-tensors-int8",
    "W4AFP8": "compressed-tensors-int4",
    "FP8": "fp8",
    "FP8_DYNAMIC": "fp8",
    "FP8_BLOCK": "fp8",
    "NVFP4A16": "nvfp4",
    "NVFP4": "nvfp4",
    "MXFP4A16": "mxfp4",
    "MXFP4": "mxfp4",
    "MXFP6A16": "mxfp6",
    "MXFP8A16": "fp8",
}


def scheme_of(preset: str, *targets: str) -> Any:
    return quantization.preset_name_to_scheme(preset, list(targets or ("Linear",)))


def compress(model: Any, path: Path, *schemes: Any, form: str | None = None) -> None:
    """Calibrate by the smallest and the largest value, compress and save."""
    groups = {f"group_{at}": scheme for at, scheme in enumerate(schemes)}
    config = quantization.QuantizationConfig(config_groups=groups, ignore=["lm_head"])
    quantization.apply_quantization_config(model, config)
    for module in model.modules():
        if getattr(module, "quantization_scheme", None) is not None:
            calibrate(module)
    compressor = compressors.ModelCompressor.from_pretrained_model(model, form)
    compressor.compress_model(model)
    model.save_pretrained(path)
    compressor.update_config(path)


def calibrate(module: Any) -> None:
    arguments, weight = module.quantization_scheme.weights, module.weight.data.float()
    scale = module.weight_scale.data
    rows, width = weight.shape
    if arguments.strategy == "block":
        down, across = arguments.block_structure
        blocks = weight.reshape(rows // down, down, width // across, across)
        smallest, largest = blocks.amin((1, 3)), blocks.amax((1, 3))
    else:
        groups = weight.reshape(*(scale.shape if scale.dim() > 1 else (1, 1)), -1)
        smallest, largest = groups.amin(-1), groups.amax(-1)
    whole = {}
    if hasattr(module, "weight_global_scale"):
        module.weight_global_scale.data.fill_(1)
        whole["global_scale"] = module.weight_global_scale.data
    found, zero = utils.calculate_qparams(smallest, largest, arguments, **whole)
    scale.copy_(found.reshape(scale.shape))
    if hasattr(module, "weight_zero_point"):
        module.weight_zero_point.data.copy_(zero.reshape(module.weight_zero_point.shape))


@pytest.fixture
def told(tmp_path: Path, llama: Callable[[], Any], checked) -> Callable[..., str]:
    """Return what compresses the tiny model, checks what was saved and returns the scheme."""

    def scheme(*schemes: Any, form: str | None = None) -> str:
        compress(llama(), tmp_path, *schemes, form=form)
        found, compute_dtype = checked()
        assert compute_dtype == "bf16"
        return found

    return scheme


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset(told: Callable[..., str], preset: str) -> None:
    assert told(scheme_of(preset)) == PRESETS[preset]


def test_groups_with_bits_of_their_own(told: Callable[..., str]) -> None:
    found = told(scheme_of("W4A16", "re:.*mlp.*"), scheme_of("W8A16", "re:.*self_attn.*"))

    assert found == "compressed-tensors-int4+compressed-tensors-int8"


@pytest.mark.parametrize("form", ["naive-quantized", "int-quantized"])
def test_four_bits_in_whole_bytes(told: Callable[..., str], form: str) -> None:
    assert told(scheme_of("W4A16"), form=form) == "compressed-tensors-int4"


def test_ordered_by_activations(told: Callable[..., str]) -> None:
    arguments = quantization.QuantizationArgs(
        num_bits=4, type="int", strategy="group", group_size=128, actorder="weight"
    )
    scheme = quantization.QuantizationScheme(targets=["Linear"], weights=arguments)

    assert told(scheme) == "compressed-tensors-int4"
