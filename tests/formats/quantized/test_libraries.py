"""Bases that the quantisation libraries themselves packed, beside the model they packed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from sentinel.checkpoint import Base
from sentinel.formats.base import read_base

pytestmark = pytest.mark.trainer
torch = pytest.importorskip("torch")
save_file = pytest.importorskip("safetensors.torch").save_file


class Small(torch.nn.Module):
    """Layers of the sizes that matter: many groups a row, one group, a bias, a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = torch.nn.Linear(256, 96, bias=False)
        self.biased = torch.nn.Linear(256, 64)
        self.narrow = torch.nn.Linear(48, 32, bias=False)
        self.norm = torch.nn.LayerNorm(8)


@pytest.fixture
def model() -> Small:
    torch.manual_seed(0)
    return Small()


def written(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: dict[str, str] | None = None,
    **config: object,
) -> Base:
    path.mkdir(exist_ok=True)
    save_file(
        {key: value.contiguous() for key, value in tensors.items()},
        path / "model.safetensors",
        metadata,
    )
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return read_base(path)


def shapes(base: Base) -> dict[str, tuple[int | None, int | None]]:
    return {one.module: (one.out_features, one.in_features) for one in base.weights}


PLAIN = {"wide": (96, 256), "biased": (64, 256), "narrow": (32, 48), "norm": (8, None)}


def test_the_plain_model(tmp_path: Path, model: Small) -> None:
    """What all others are compared with."""
    assert shapes(written(tmp_path, model.state_dict())) == PLAIN


@pytest.mark.parametrize(
    ("weights", "scheme"), [("qint8", "quanto-int8"), ("qfloat8", "quanto-float8")]
)
def test_quanto_of_eight_bits(tmp_path: Path, model: Small, weights: str, scheme: str) -> None:
    quanto = pytest.importorskip("optimum.quanto")
    quanto.quantize(model, weights=getattr(quanto, weights))
    quanto.freeze(model)

    base = written(tmp_path, model.state_dict())

    assert any(key.endswith(".weight._data") for key in model.state_dict())
    assert shapes(base) == PLAIN
    assert (base.scheme, base.compute_dtype) == (scheme, "fp32")


@pytest.mark.parametrize("weights", ["qint4", "qint2"])
def test_quanto_below_a_byte(tmp_path: Path, model: Small, weights: str) -> None:
    """Groups hide the shape unless a bias tells the outputs; it is open then, never wrong."""
    quanto = pytest.importorskip("optimum.quanto")
    quanto.quantize(model, weights=getattr(quanto, weights))
    quanto.freeze(model)

    base = written(tmp_path, model.state_dict())

    assert shapes(base) == {**PLAIN, "wide": (None, None)}
    assert base.scheme == f"quanto-{weights.removeprefix('q')}"


@pytest.mark.parametrize(
    ("config", "scheme"),
    [("Int8WeightOnlyConfig", "torchao-int8"), ("Float8WeightOnlyConfig", "torchao-float8")],
)
def test_torchao(tmp_path: Path, model: Small, config: str, scheme: str) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    support = pytest.importorskip("torchao.prototype.safetensors.safetensors_support")
    model = model.bfloat16()
    quantization.quantize_(model, getattr(quantization, config)(version=2))
    tensors, metadata = support.flatten_tensor_state_dict(model.state_dict())

    base = written(tmp_path, tensors, metadata)

    assert shapes(base) == PLAIN
    assert (base.scheme, base.compute_dtype) == (scheme, "bf16")


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_hqq(tmp_path: Path, bits: int) -> None:
    quantize = pytest.importorskip("hqq.core.quantize")
    layer = quantize.HQQLinear(
        torch.nn.Linear(256, 96),
        quantize.BaseQuantizeConfig(nbits=bits, group_size=64),
        compute_dtype=torch.bfloat16,
        device="cpu",
    )
    tensors = {f"m.wide.{key}": value for key, value in layer.state_dict().items()}

    base = written(tmp_path, tensors)

    assert shapes(base) == {"m.wide": (96, 256)}
    assert (base.scheme, base.compute_dtype) == (f"hqq-int{bits}", "bf16")


@pytest.mark.parametrize(
    ("preset", "scheme"),
    [
        ("W4A16", "compressed-tensors-int4"),
        ("W8A8", "compressed-tensors-int8"),
        ("FP8_DYNAMIC", "fp8"),
        ("NVFP4A16", "nvfp4"),
    ],
)
def test_compressed_tensors(tmp_path: Path, preset: str, scheme: str) -> None:
    """Each of the library's compressors, on one layer, with the description that it writes."""
    ct = pytest.importorskip("compressed_tensors.quantization")
    compressors = pytest.importorskip("compressed_tensors.compressors")
    described = ct.preset_name_to_scheme(preset, ["Linear"])
    kind = {"W4A16": "pack-quantized", "W8A8": "int-quantized", "FP8_DYNAMIC": "float-quantized"}
    name = kind.get(preset, "nvfp4-pack-quantized")
    weight = torch.randn(96, 256)
    state = {"weight": weight, **_scales(weight, preset)}

    compressor = compressors.BaseCompressor.get_value_from_registry(name)
    packed = compressor.compress(state, described)

    section = {
        "quant_method": "compressed-tensors",
        "format": name,
        "config_groups": {"group_0": described.model_dump(mode="json")},
    }
    tensors = {f"m.wide.{key}": value for key, value in packed.items()}
    base = written(tmp_path, tensors, quantization_config=section, dtype="bfloat16")
    assert shapes(base) == {"m.wide": (96, 256)}
    assert (base.scheme, base.compute_dtype) == (scheme, "bf16")


def _scales(weight: torch.Tensor, preset: str) -> dict[str, torch.Tensor]:
    """Scales as a calibration gives them: for a group of 128, of 16, or for a row."""
    group = {"W4A16": 128, "NVFP4A16": 16}.get(preset, weight.shape[1])
    largest = weight.reshape(weight.shape[0], -1, group).abs().amax(-1)
    if preset == "NVFP4A16":
        return {
            "weight_scale": largest / 6,
            "weight_global_scale": torch.ones(1),
        }
    return {"weight_scale": largest / {"W4A16": 7, "W8A8": 127}.get(preset, 448)}
