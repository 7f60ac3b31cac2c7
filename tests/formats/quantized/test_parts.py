"""Layers, parts of pipelines and single tensors that libraries packed on their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentinel.checkpoint import Base
from sentinel.formats.base import read_base

pytestmark = pytest.mark.trainer
torch = pytest.importorskip("torch")
save_file = pytest.importorskip("safetensors.torch").save_file

OUT, IN, GROUP = 96, 256, 64


def written(path: Path, tensors: dict[str, Any], metadata: dict[str, str] | None = None) -> Base:
    save_file(
        {key: value.contiguous() for key, value in tensors.items()},
        path / "model.safetensors",
        metadata,
    )
    (path / "config.json").write_text("{}")
    return read_base(path)


def only(base: Base) -> tuple[str, str | None, int | None, int | None]:
    (weight,) = base.weights
    return weight.scheme, base.compute_dtype, weight.out_features, weight.in_features


# -- bitsandbytes ------------------------------------------------------------------------------


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("storage", ["uint8", "bfloat16", "float32"])
def test_a_layer_of_four_bits(tmp_path: Path, kind: str, storage: str, *, nested: bool) -> None:
    """A layer saved without any configuration computes as bitsandbytes does by default."""
    bnb = pytest.importorskip("bitsandbytes")
    layer = bnb.nn.Linear4bit(
        IN,
        OUT,
        bias=False,
        quant_type=kind,
        compress_statistics=nested,
        quant_storage=getattr(torch, storage),
    ).to("cpu")
    packed = bnb.nn.Params4bit(
        torch.randn(OUT, IN),
        requires_grad=False,
        quant_type=kind,
        compress_statistics=nested,
        quant_storage=getattr(torch, storage),
    )
    layer.weight = packed.to("cpu")

    base = written(tmp_path, {f"m.q.{key}": one for key, one in layer.state_dict().items()})

    assert only(base) == (kind, "fp32", OUT, IN)


def test_a_layer_of_eight_bits(tmp_path: Path) -> None:
    bnb = pytest.importorskip("bitsandbytes")
    layer = bnb.nn.Linear8bitLt(IN, OUT, bias=False, has_fp16_weights=False)
    layer.weight = bnb.nn.Int8Params(
        torch.randn(OUT, IN), requires_grad=False, has_fp16_weights=False
    ).to("cpu")
    state = layer.state_dict()

    base = written(tmp_path, {f"m.q.{key}": one for key, one in state.items()})

    assert {"weight", "SCB", "weight_format"} <= state.keys()
    assert only(base) == ("int8", None, OUT, IN)


# -- torchao: the classes that have no kernel on a processor, made of their own parts -----------


def torchao_tensors() -> dict[str, tuple[Callable[[], Any], str]]:
    """Return what makes each tensor class of [OUT, IN], and the scheme it is."""

    def int4(kind: str, codes: Any, *scales: Any) -> Any:
        workflows = pytest.importorskip("torchao.quantization.quantize_.workflows")
        return getattr(workflows, kind)(codes, *scales, [1, GROUP], torch.Size((OUT, IN)))

    def mx(element: Any) -> Any:
        module = pytest.importorskip("torchao.prototype.mx_formats.mx_tensor")
        return module.MXTensor.to_mx(torch.randn(OUT, IN, dtype=torch.bfloat16), element, 32)

    def nvfp4() -> Any:
        module = pytest.importorskip("torchao.prototype.mx_formats.nvfp4_tensor")
        return module.NVFP4Tensor.to_nvfp4(torch.randn(OUT, IN, dtype=torch.bfloat16))

    half = torch.ones(IN // GROUP, OUT, dtype=torch.bfloat16)
    return {
        "int4": (
            lambda: int4("Int4Tensor", torch.zeros(OUT, IN // 2, dtype=torch.uint8), half, half),
            "torchao-int4",
        ),
        "int4 in words": (
            lambda: int4(
                "Int4PlainInt32Tensor", torch.zeros(OUT, IN // 8, dtype=torch.int32), half, half
            ),
            "torchao-int4",
        ),
        "int4 in tiles": (
            lambda: int4(
                "Int4TilePackedTo4dTensor",
                torch.zeros(OUT // 8, IN // 128, 32, 4, dtype=torch.int32),
                torch.ones(IN // GROUP, OUT, 2, dtype=torch.bfloat16),
            ),
            "torchao-int4",
        ),
        "mxfp8": (lambda: mx(torch.float8_e4m3fn), "torchao-mxfp8"),
        "mxfp4": (lambda: mx(torch.float4_e2m1fn_x2), "torchao-mxfp4"),
        "nvfp4": (nvfp4, "torchao-nvfp4"),
    }


@pytest.mark.parametrize("case", torchao_tensors())
def test_torchao_classes(tmp_path: Path, case: str) -> None:
    support = pytest.importorskip("torchao.prototype.safetensors.safetensors_support")
    make, scheme = torchao_tensors()[case]
    tensors, metadata = support.flatten_tensor_state_dict({"m.q.weight": make()})

    base = written(tmp_path, tensors, metadata)

    weight = only(base)
    assert weight[0] == scheme
    assert weight[2:] == (OUT, IN)


# -- gpt-oss -----------------------------------------------------------------------------------


def test_the_experts_of_gpt_oss(tmp_path: Path) -> None:
    """Transformers unpacks blocks and scales to one matrix an expert: the transposed of ours."""
    mxfp4 = pytest.importorskip("transformers.integrations.mxfp4")
    experts, rows, groups = 3, 64, 4
    blocks = torch.randint(0, 256, (experts, rows, groups, 16), dtype=torch.uint8)
    scales = torch.randint(120, 130, (experts, rows, groups), dtype=torch.uint8)

    base = written(tmp_path, {"m.experts.up_blocks": blocks, "m.experts.up_scales": scales})

    unpacked = mxfp4.convert_moe_packed_tensors(blocks, scales)
    assert only(base) == ("mxfp4", "bf16", rows, groups * 32)
    assert tuple(unpacked.shape) == (experts, groups * 32, rows)


# -- diffusers ---------------------------------------------------------------------------------

FLUX: dict[str, Any] = {
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 4,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 32,
    "in_channels": 4,
    "axes_dims_rope": (4, 4, 8),
}


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformer of a pipeline, not quantised."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("flux") / "transformer"
    diffusers.FluxTransformer2DModel(**FLUX).save_pretrained(path)
    return path


def flux_packings(diffusers: Any) -> dict[str, tuple[Callable[[], Any], str, str | None]]:
    def four_bit() -> Any:
        return diffusers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
        )

    def torchao() -> Any:
        quantization = pytest.importorskip("torchao.quantization")
        return diffusers.TorchAoConfig(quantization.Int8WeightOnlyConfig(version=2))

    return {
        "nf4": (four_bit, "nf4", "bf16"),
        "int8": (lambda: diffusers.BitsAndBytesConfig(load_in_8bit=True), "int8", None),
        "quanto": (lambda: diffusers.QuantoConfig(weights_dtype="int8"), "quanto-int8", "bf16"),
        "torchao": (torchao, "torchao-int8", "bf16"),
    }


@pytest.mark.parametrize("case", ["nf4", "int8", "quanto", "torchao"])
def test_a_pipelines_transformer(
    tmp_path: Path, flux: Path, logical, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Alone, and as a component of a pipeline whose modules carry its name."""
    diffusers = pytest.importorskip("diffusers")
    if case in {"nf4", "int8"}:
        pytest.importorskip("bitsandbytes")
        quantizers = pytest.importorskip("diffusers.quantizers.bitsandbytes.bnb_quantizer")
        for kind in (quantizers.BnB4BitDiffusersQuantizer, quantizers.BnB8BitDiffusersQuantizer):
            # It asks for a GPU; the packing itself runs anywhere.
            monkeypatch.setattr(kind, "validate_environment", lambda *_, **__: None)
    elif case == "quanto":
        pytest.importorskip("optimum.quanto")
    make, scheme, compute_dtype = flux_packings(diffusers)[case]
    place = {"device_map": {"": "cpu"}} if case in {"nf4", "int8"} else {}
    model = diffusers.FluxTransformer2DModel.from_pretrained(
        flux, quantization_config=make(), torch_dtype=torch.bfloat16, **place
    )

    model.save_pretrained(tmp_path / "transformer")

    shapes = logical(read_base(flux))
    base = read_base(tmp_path / "transformer")
    assert logical(base) == shapes
    assert (base.scheme, base.compute_dtype) == (scheme, compute_dtype)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    whole = read_base(tmp_path)
    assert logical(whole) == {f"transformer.{module}": shape for module, shape in shapes.items()}
