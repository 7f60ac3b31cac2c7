"""Real adapters on real bases: quiet on healthy pairs, a plain sentence where they do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sentinel

pytestmark = pytest.mark.trainer
torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
safetensors_torch = pytest.importorskip("safetensors.torch")

ABOUT_THE_BASE = {
    "adapter-keys-mismatch-base",
    "adapter-shape-mismatch-base",
    "base-quantization-changed",
    "dora-zero-norm-rows",
    "dtype-mismatch-base",
    "norm-explosion",
    "quanto-resume",
}
BNB: dict[str, dict[str, Any]] = {
    "none": {},
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "nf4dq": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
    },
    "fp4": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "fp4",
        "bnb_4bit_compute_dtype": "bfloat16",
    },
    "int8": {"load_in_8bit": True},
}
TORCHAO = {"torchao-int8": "Int8WeightOnlyConfig", "torchao-float8": "Float8WeightOnlyConfig"}


def tiny(**changes: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        **{
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 64,
            "max_position_embeddings": 32,
            **changes,
        }
    )
    return transformers.LlamaForCausalLM(config)


def adapter_on(path: Path, base: Path, *, half: str | None = None, **options: Any) -> Path:
    """Save an adapter after two steps on a base that lies at a path, in fp32 unless told."""
    dtype = {"dtype": getattr(torch, half)} if half else {}
    model = transformers.AutoModelForCausalLM.from_pretrained(base, **dtype)
    if getattr(model, "is_quantized", False) and not half:
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", **options)
    model = peft.get_peft_model(model, config, autocast_adapter_dtype=not half)
    if half:
        for name, value in model.named_parameters():
            value.data = value.data.to(dtype["dtype"]) if "lora_" in name else value.data
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], 1e-3)
    for _ in range(2):
        tokens = torch.randint(0, 64, (2, 8))
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(path)
    return path


def told(adapter: Path, base: Path) -> dict[str, tuple[str, str]]:
    (judgement,) = sentinel.scan(adapter, base=base, settle_s=0)
    return {
        found.rule: (found.severity, found.message)
        for found in judgement.verdict.findings
        if found.rule in ABOUT_THE_BASE
    }


def not_evaluated(adapter: Path, base: Path) -> dict[str, str]:
    (judgement,) = sentinel.scan(adapter, base=base, settle_s=0)
    return {one.rule: one.reason for one in judgement.verdict.not_evaluated}


def packing(kind: str) -> Any:
    if kind in TORCHAO:
        quantization = pytest.importorskip("torchao.quantization")
        version = {"version": 2} if kind == "torchao-int8" else {}
        return transformers.TorchAoConfig(getattr(quantization, TORCHAO[kind])(**version))
    pytest.importorskip("bitsandbytes")
    return transformers.BitsAndBytesConfig(**BNB[kind])


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a maker of the tiny model, quantised as asked; each once."""
    root = tmp_path_factory.mktemp("bases")
    tiny().save_pretrained(root / "none")

    def base(kind: str) -> Path:
        path = root / kind
        if not path.exists():
            transformers.AutoModelForCausalLM.from_pretrained(
                root / "none", quantization_config=packing(kind), dtype=torch.bfloat16
            ).save_pretrained(path)
        return path

    return base


@pytest.fixture(scope="module")
def adapters(
    bases: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("adapters")

    def adapter(kind: str) -> Path:
        return root / kind if (root / kind).exists() else adapter_on(root / kind, bases(kind))

    return adapter


@pytest.mark.parametrize("kind", [*BNB, *TORCHAO])
def test_a_healthy_pair_is_quiet(
    bases: Callable[[str], Path], adapters: Callable[[str], Path], kind: str
) -> None:
    """Every rule about the base is asked of keys and shapes, and none has anything to say."""
    assert told(adapters(kind), bases(kind)) == {}
    asked = {"adapter-keys-mismatch-base", "adapter-shape-mismatch-base"}
    assert not asked & not_evaluated(adapters(kind), bases(kind)).keys()


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_an_adapter_moves_between_packings(
    bases: Callable[[str], Path], adapters: Callable[[str], Path], kind: str
) -> None:
    """Logical shapes are equal, so an adapter of the plain base fits the packed one."""
    assert told(adapters("none"), bases(kind)) == {}


@pytest.mark.parametrize("kind", ["nf4", "fp4", "int8", "torchao-int8"])
def test_a_half_precision_pair_of_one_dtype_is_quiet(
    tmp_path: Path, bases: Callable[[str], Path], kind: str
) -> None:
    """Trained by PEFT in bf16 on a base whose activations are bf16."""
    adapter = adapter_on(tmp_path, bases(kind), half="bfloat16")

    tensors = safetensors_torch.load_file(adapter / "adapter_model.safetensors")
    assert {value.dtype for value in tensors.values()} == {torch.bfloat16}
    assert told(adapter, bases(kind)) == {}


def test_two_half_precisions_are_told(tmp_path: Path, bases: Callable[[str], Path]) -> None:
    """An fp16 adapter on a base that computes in bf16: PEFT casts, others stop."""
    adapter = adapter_on(tmp_path, bases("fp4"), half="float16")

    severity, message = told(adapter, bases("fp4"))["dtype-mismatch-base"]

    assert severity == "warning"
    assert "28 of 28 half-precision adapter tensors are F16, but the fp4 base computes in BF16" in (
        message
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("nf4", None), ("none", None), ("int8", "info"), ("torchao-float8", "warning")],
)
def test_another_quantisation_is_told(
    tmp_path: Path,
    bases: Callable[[str], Path],
    adapters: Callable[[str], Path],
    kind: str,
    expected: str | None,
) -> None:
    """Trained on NF4 as its manifest says; what is stored plainly may be packed on loading."""
    for file in adapters("nf4").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    manifest = {"schema": 1, "step": 2, "base": {"quantization": "nf4"}}
    (tmp_path / "sentinel_manifest.json").write_text(json.dumps(manifest))

    found = told(tmp_path, bases(kind)).get("base-quantization-changed")

    assert (found[0] if found else None) == expected
    if found:
        assert f"quantised as nf4, and the base that was found is {kind}" in found[1]


@pytest.mark.parametrize("kind", ["nf4", "int8", "torchao-int8"])
def test_another_size_is_told_of_packed_weights(
    tmp_path: Path, adapters: Callable[[str], Path], kind: str
) -> None:
    """By the unpacked shapes, never by those of the codes."""
    tiny(hidden_size=32).save_pretrained(tmp_path / "plain")
    transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "plain", quantization_config=packing(kind), dtype=torch.bfloat16
    ).save_pretrained(tmp_path / "packed")

    _, message = told(adapters("none"), tmp_path / "packed")["adapter-shape-mismatch-base"]

    assert "14 of 14 adapter modules do not fit the base" in message
    assert "it is made for a weight of 64 x 96, the base has 32 x 96" in message


def test_another_size_is_told(tmp_path: Path, adapters: Callable[[str], Path]) -> None:
    tiny(hidden_size=32).save_pretrained(tmp_path)

    severity, message = told(adapters("none"), tmp_path)["adapter-shape-mismatch-base"]

    assert severity == "warning"
    assert "14 of 14 adapter modules do not fit the base" in message


def test_fewer_layers_are_told(tmp_path: Path, adapters: Callable[[str], Path]) -> None:
    tiny(num_hidden_layers=1).save_pretrained(tmp_path)

    _, message = told(adapters("none"), tmp_path)["adapter-keys-mismatch-base"]

    assert "the base has 7 of the adapter's 14 modules" in message
    assert "the nearest: 'model.layers.0." in message


def test_zero_rows_under_dora_are_told(tmp_path: Path) -> None:
    """A base like Llama 3.1's o_proj; PEFT itself gives NaN on it, plain LoRA does not mind."""
    model = tiny()
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight[:5] = 0
    model.save_pretrained(tmp_path / "base")
    adapter = adapter_on(tmp_path / "dora", tmp_path / "base", use_dora=True)
    plain = adapter_on(tmp_path / "lora", tmp_path / "base")

    severity, message = told(adapter, tmp_path / "base")["dora-zero-norm-rows"]

    assert severity == "warning"
    assert message.startswith("5 rows of the base under 1 of 14 DoRA modules are exactly zero")
    assert "'model.layers.1.self_attn.o_proj'" in message
    tensors = safetensors_torch.load_file(adapter / "adapter_model.safetensors")
    assert any(value.isnan().any() for value in tensors.values())
    assert told(plain, tmp_path / "base") == {}


def test_the_first_step_of_dora_on_zero_rows(tmp_path: Path) -> None:
    """What the rule says: before any update, PEFT's forward pass is NaN; it is told then too."""
    model = tiny()
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight[0] = 0
    model.save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(target_modules=["o_proj"], use_dora=True, task_type="CAUSAL_LM")
    wrapped = peft.get_peft_model(model, config)
    wrapped.save_pretrained(tmp_path / "dora")
    tokens = torch.zeros((1, 4), dtype=torch.long)

    loss = wrapped(input_ids=tokens, labels=tokens).loss

    assert loss.isnan()
    severity, message = told(tmp_path / "dora", tmp_path / "base")["dora-zero-norm-rows"]
    assert severity == "warning"
    assert message.startswith("1 rows of the base under 1 of 2 DoRA modules are exactly zero")


def test_the_norm_of_the_base_is_a_yardstick(tmp_path: Path, bases: Callable[[str], Path]) -> None:
    """Ten times the base weight is an explosion, whatever the initialisation was."""
    adapter = adapter_on(tmp_path / "a", bases("none"))
    tensors = safetensors_torch.load_file(adapter / "adapter_model.safetensors")
    loud = {key: value * (1e5 if "lora_B" in key else 1) for key, value in tensors.items()}
    safetensors_torch.save_file(loud, adapter / "adapter_model.safetensors")

    _, message = told(adapter, bases("none"))["norm-explosion"]

    assert "times the base weight" in message


def test_story_two_is_told_in_plain_words(tmp_path: Path, bases: Callable[[str], Path]) -> None:
    """An adapter trained before its base was packed by optimum-quanto, about to be resumed."""
    quanto = pytest.importorskip("optimum.quanto")
    adapter = adapter_on(tmp_path / "a", bases("none"))
    model = tiny()
    quanto.quantize(model, weights=quanto.qint8, exclude="lm_head")
    quanto.freeze(model)
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "config.json").write_text("{}")
    (packed / "quanto_qmap.json").write_text(json.dumps(quanto.quantization_map(model)))
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    safetensors_torch.save_file(tensors, packed / "model.safetensors")

    findings = told(adapter, packed)

    assert findings.keys() == {"quanto-resume"}
    severity, message = findings["quanto-resume"]
    assert severity == "info"
    assert "KeyError '...weight._data' although the checkpoint is healthy" in message
