"""Whole models that libraries packed and saved themselves, beside the model they packed.

Of each of them every weight has the shape it had before, and no weight was read to know that. An
adapter trained on the plain model fits all of them, so nothing is said about it.
"""

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
transformers = pytest.importorskip("transformers")

Shapes = Callable[[Base], dict[str, tuple[int | None, int | None]]]


def loaded(plain: Path, config: Any, **options: Any) -> Any:
    """Load the plain model so that Transformers packs it with a configuration."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        plain, quantization_config=config, dtype=torch.bfloat16, **options
    )


BITSANDBYTES: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "nf4": ({"bnb_4bit_quant_type": "nf4"}, ("nf4", "fp32")),
    "fp4": (
        {"bnb_4bit_quant_type": "fp4", "bnb_4bit_compute_dtype": "bfloat16"},
        ("fp4", "bf16"),
    ),
    "nested": (
        {
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": "float16",
        },
        ("nf4", "fp16"),
    ),
    **{
        f"in {storage}": (
            {"bnb_4bit_quant_type": "nf4", "bnb_4bit_quant_storage": storage},
            ("nf4", "fp32"),
        )
        for storage in ("bfloat16", "float16", "float32", "int8")
    },
}


@pytest.mark.parametrize("case", BITSANDBYTES)
def test_bitsandbytes_of_four_bits(tmp_path: Path, plain: Path, checked, case: str) -> None:
    pytest.importorskip("bitsandbytes")
    options, expected = BITSANDBYTES[case]

    config = transformers.BitsAndBytesConfig(load_in_4bit=True, **options)
    loaded(plain, config).save_pretrained(tmp_path)

    assert checked() == expected


def test_bitsandbytes_of_eight_bits(tmp_path: Path, plain: Path, checked) -> None:
    pytest.importorskip("bitsandbytes")
    config = transformers.BitsAndBytesConfig(load_in_8bit=True)

    loaded(plain, config).save_pretrained(tmp_path)

    assert checked() == ("int8", "bf16")


@pytest.mark.parametrize(
    "options",
    [
        {"weight_block_size": (128, 128)},
        {"weight_block_size": (64, 64)},
        {"weight_block_size": None},
        {"weight_block_size": (128, 128), "scale_fmt": "ue8m0"},
    ],
    ids=str,
)
def test_fine_grained_fp8(
    tmp_path: Path, plain: Path, checked, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """Only the question whether there is a GPU is left out: the packing itself runs anywhere."""
    quantizer = pytest.importorskip("transformers.quantizers.quantizer_finegrained_fp8")
    monkeypatch.setattr(
        quantizer.FineGrainedFP8HfQuantizer, "validate_environment", lambda *_, **__: None
    )

    loaded(plain, transformers.FineGrainedFP8Config(**options)).save_pretrained(tmp_path)

    assert checked() == ("fp8", "bf16")


def test_fp8_of_stacked_experts(
    tmp_path: Path, logical: Shapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scales that Transformers leaves beside the experts are no weights of their own."""
    quantizer = pytest.importorskip("transformers.quantizers.quantizer_finegrained_fp8")
    monkeypatch.setattr(
        quantizer.FineGrainedFP8HfQuantizer, "validate_environment", lambda *_, **__: None
    )
    config = transformers.MixtralConfig(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=64,
        num_local_experts=2,
    )
    transformers.MixtralForCausalLM(config).save_pretrained(tmp_path / "plain")

    packing = transformers.FineGrainedFP8Config(weight_block_size=(128, 128))
    loaded(tmp_path / "plain", packing).save_pretrained(tmp_path / "fp8")

    base = read_base(tmp_path / "fp8")
    assert logical(base) == logical(read_base(tmp_path / "plain"))
    assert base.scheme == "fp8"


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_metal(
    tmp_path: Path, plain: Path, checked, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    quantizer = pytest.importorskip("transformers.quantizers.quantizer_metal")
    monkeypatch.setattr(quantizer.MetalHfQuantizer, "validate_environment", lambda *_, **__: None)
    config = transformers.MetalConfig(bits=bits, group_size=64)

    loaded(plain, config, device_map="cpu").save_pretrained(tmp_path)

    assert checked() == (f"mlx-int{bits}", "bf16")


TORCHAO: dict[str, tuple[str, dict[str, Any], str]] = {
    "int8": ("Int8WeightOnlyConfig", {"version": 2}, "torchao-int8"),
    "int8 of both": ("Int8DynamicActivationInt8WeightConfig", {"version": 2}, "torchao-int8"),
    "float8": ("Float8WeightOnlyConfig", {}, "torchao-float8"),
    "int4": ("IntxWeightOnlyConfig", {"weight_dtype": "int4"}, "torchao-int4"),
    "int4 with int8": (
        "Int8DynamicActivationIntxWeightConfig",
        {"weight_dtype": "int4"},
        "torchao-int4",
    ),
}


@pytest.mark.parametrize("case", TORCHAO)
def test_torchao(tmp_path: Path, plain: Path, checked, case: str) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    name, options, scheme = TORCHAO[case]
    typed = {key: getattr(torch, str(one), one) for key, one in options.items()}

    config = transformers.TorchAoConfig(getattr(quantization, name)(**typed))
    loaded(plain, config).save_pretrained(tmp_path)

    assert checked() == (scheme, "bf16")


def test_torchao_pickled(tmp_path: Path, llama, checked) -> None:
    """The pickle names class, dtype and shape of each weight, and nothing of it is run."""
    quantization = pytest.importorskip("torchao.quantization")
    model = llama()
    quantization.quantize_(
        model,
        quantization.Int8WeightOnlyConfig(version=2),
        filter_fn=lambda module, name: isinstance(module, torch.nn.Linear) and name != "lm_head",
    )
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")

    assert checked() == ("torchao-int8", "bf16")


@pytest.mark.parametrize("weights", ["qint8", "qint4", "qint2", "qfloat8", "qfloat8_e5m2"])
def test_quanto(tmp_path: Path, llama, checked, weights: str) -> None:
    """Below a byte the configuration tells what the packed groups hide."""
    quanto = pytest.importorskip("optimum.quanto")
    model = quanto.QuantizedModelForCausalLM.quantize(
        llama(), weights=getattr(quanto, weights), exclude="lm_head"
    )

    model.save_pretrained(tmp_path)

    kind = weights.removeprefix("q").partition("_")[0]
    assert checked() == (f"quanto-{kind}", "bf16")
    assert (tmp_path / "quanto_qmap.json").exists()


@pytest.mark.parametrize("bits", [4, 8])
def test_hqq_in_its_own_file(tmp_path: Path, llama, checked, bits: int) -> None:
    base = pytest.importorskip("hqq.models.hf.base")
    quantize = pytest.importorskip("hqq.core.quantize")
    model = llama()
    base.AutoHQQHFModel.quantize_model(
        model,
        quant_config=quantize.BaseQuantizeConfig(nbits=bits, group_size=64),
        compute_dtype=torch.bfloat16,
        device="cpu",
    )

    base.AutoHQQHFModel.save_quantized(model, str(tmp_path))

    assert (tmp_path / "qmodel.pt").exists()
    assert checked() == (f"hqq-int{bits}", "bf16")


# -- the same weights in other files -----------------------------------------------------------


def test_shards(tmp_path: Path, llama, checked) -> None:
    llama().save_pretrained(tmp_path, max_shard_size="200KB")

    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert checked() == ("none", "bf16")


def test_a_packed_model_in_shards(tmp_path: Path, plain: Path, checked) -> None:
    pytest.importorskip("bitsandbytes")
    config = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")

    loaded(plain, config).save_pretrained(tmp_path, max_shard_size="100KB")

    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert checked() == ("nf4", "fp32")


@pytest.mark.parametrize("count", [1, 3])
def test_pickled_models(tmp_path: Path, llama, checked, count: int) -> None:
    """One file or shards, as older Transformers saved."""
    model = llama()
    model.config.save_pretrained(tmp_path)
    state = list(model.state_dict().items())
    names = (
        ["pytorch_model.bin"]
        if count == 1
        else [f"pytorch_model-{at:05d}-of-{count:05d}.bin" for at in range(1, count + 1)]
    )
    for at, name in enumerate(names):
        torch.save(dict(state[at::count]), tmp_path / name)

    assert checked() == ("none", None)


def test_one_file_of_torch_is_a_base(tmp_path: Path, plain: Path, llama, logical: Shapes) -> None:
    path = tmp_path / "model.pt"
    torch.save({"state_dict": llama().state_dict()}, path)

    assert logical(read_base(path)) == logical(read_base(plain))


def test_a_snapshot_in_the_cache_of_the_hub(tmp_path: Path, plain: Path, checked) -> None:
    """Files there are links into a pool of blobs; the hub's own look-up finds the same file."""
    hub = pytest.importorskip("huggingface_hub")
    folder, commit = tmp_path / "models--owner--name", "c" * 40
    snapshot = folder / "snapshots" / commit
    for directory in (folder / "blobs", folder / "refs", snapshot):
        directory.mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    for number, file in enumerate(sorted(plain.iterdir())):
        blob = folder / "blobs" / f"{number:064x}"
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(Path("../..") / "blobs" / blob.name)

    found = hub.try_to_load_from_cache("owner/name", "config.json", cache_dir=tmp_path)

    assert found == str(snapshot / "config.json")
    assert checked(snapshot) == ("none", "bf16")


def test_a_base_under_an_adapter_that_was_not_taken_off(
    tmp_path: Path, llama, logical: Shapes, plain: Path
) -> None:
    """PEFT's names of a wrapped model: `base_model.model.`, `base_layer`, the adapter's own."""
    peft = pytest.importorskip("peft")
    save_file = pytest.importorskip("safetensors.torch").save_file
    model = peft.get_peft_model(llama(), peft.LoraConfig(target_modules="all-linear"))
    tensors = {key: value.clone() for key, value in model.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_dict(), default=str))

    assert logical(read_base(tmp_path)) == logical(read_base(plain))
