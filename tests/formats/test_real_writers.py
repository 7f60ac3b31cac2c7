"""Checkpoints written by PEFT, Transformers and bitsandbytes themselves, read without them.

Each is compared with what the official safetensors reader sees, and with what the writer knows
about its own model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from sentinel.checkpoint import Checkpoint
from sentinel.formats.base import read_base
from sentinel.formats.opening import discover, open_checkpoint
from sentinel.stats.measure import measure

pytestmark = pytest.mark.trainer

HIDDEN, LAYERS, VOCABULARY = 32, 2, 64


def tiny_model(kind: str = "causal", *, seed: int = 0, **options: Any) -> Any:
    """A Llama of two layers with random weights."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        pad_token_id=0,
        **options,
    )
    if kind == "classifier":
        return transformers.LlamaForSequenceClassification(config)
    return transformers.LlamaForCausalLM(config)


@pytest.fixture
def adapted(tmp_path: Path) -> Callable[..., tuple[Any, Checkpoint]]:
    """Save a PEFT adapter over a tiny model; returns the model and the opened checkpoint."""
    peft = pytest.importorskip("peft")

    def save(kind: str = "causal", **options: Any) -> tuple[Any, Checkpoint]:
        given = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **options}
        model = peft.get_peft_model(tiny_model(kind), peft.LoraConfig(**given))
        model.save_pretrained(tmp_path / "adapter")
        return model, open_checkpoint(tmp_path / "adapter")

    return save


def assert_as_official(checkpoint: Checkpoint) -> None:
    """Names, shapes, dtypes and values are those of the official reader."""
    measured = {row["tensor"]: row for row in measure(checkpoint, digest=False).tensors.to_pylist()}
    path = checkpoint.path / "adapter_model.safetensors"
    with safe_open(path, "numpy") as official:
        assert set(measured) == set(official.keys())
        for name, row in measured.items():
            values = official.get_tensor(name).astype(np.float64)
            assert row["shape"] == list(values.shape)
            assert row["dtype"] == official.get_slice(name).get_dtype()
            assert row["zero_count"] == (values == 0).sum()
            assert row["abs_max"] == np.abs(values).max()
            assert row["l2"] == pytest.approx(np.linalg.norm(values), rel=1e-9)
            assert row["mean"] == pytest.approx(values.mean(), rel=1e-6, abs=1e-9)


def assert_zero_sides_are_zero(checkpoint: Checkpoint, count: int) -> None:
    """Freshly initialised: exactly the tensors said to start at zero are all zeros."""
    rows = measure(checkpoint, digest=False).tensors.to_pylist()

    zero = {row["tensor"] for row in rows if row["zero_count"] == row["numel"]}

    assert {row["tensor"] for row in rows if row["zero_at_init"]} == zero
    assert len(zero) == count


def test_lora(adapted) -> None:
    _model, checkpoint = adapted()

    assert checkpoint.faults == ()
    assert (checkpoint.layout, checkpoint.complete) == ("peft", True)
    assert checkpoint.settings["precision.adapter"] == "fp32"
    assert {tensor.module for tensor in checkpoint.tensors} == {
        f"model.layers.{layer}.self_attn.{name}"
        for layer in range(LAYERS)
        for name in ("q_proj", "v_proj")
    }
    assert_as_official(checkpoint)
    assert_zero_sides_are_zero(checkpoint, 2 * LAYERS)


def test_dora_has_a_magnitude_a_module(adapted) -> None:
    _model, checkpoint = adapted(use_dora=True)

    roles = [tensor.role for tensor in checkpoint.tensors]

    assert roles.count("magnitude") == 2 * LAYERS
    assert checkpoint.settings["adapter.method"] == "dora"
    assert_as_official(checkpoint)
    assert_zero_sides_are_zero(checkpoint, 2 * LAYERS)


def test_an_embedding_starts_at_zero_on_the_other_side(adapted) -> None:
    """`base_layer` beside it is the embedding itself and no fault."""
    _model, checkpoint = adapted(target_modules=["embed_tokens"])

    roles = {tensor.name.rsplit("embed_tokens.")[-1]: tensor for tensor in checkpoint.tensors}

    assert roles["lora_embedding_A"].zero_at_init
    assert roles["lora_embedding_A"].role == "lora_down"
    assert roles["base_layer.weight"].role == "base"
    assert_as_official(checkpoint)
    assert_zero_sides_are_zero(checkpoint, 1)


@pytest.mark.parametrize("init", ["pissa", "olora", "orthogonal", False])
def test_other_initialisations_have_no_zero_side(adapted, init: object) -> None:
    _model, checkpoint = adapted(init_lora_weights=init)

    assert_zero_sides_are_zero(checkpoint, 0)


def test_a_saved_head_is_a_whole_copy(adapted) -> None:
    _model, checkpoint = adapted("classifier", task_type="SEQ_CLS", lora_bias=True)

    saved = [tensor for tensor in checkpoint.tensors if tensor.role == "modules_to_save"]

    assert [tensor.module for tensor in saved] == ["score"]
    assert_as_official(checkpoint)
    assert_zero_sides_are_zero(checkpoint, 4 * LAYERS)


@pytest.mark.parametrize("name", ["LoHaConfig", "LoKrConfig"])
def test_other_families(tmp_path: Path, name: str) -> None:
    """PEFT's zero sides of LoHa and LoKr are not those of LyCORIS."""
    peft = pytest.importorskip("peft")
    config = getattr(peft, name)(r=4, alpha=8, target_modules=["q_proj"])
    peft.get_peft_model(tiny_model(), config).save_pretrained(tmp_path / "adapter")

    checkpoint = open_checkpoint(tmp_path / "adapter")

    assert {tensor.family for tensor in checkpoint.tensors} == {name[:4].lower()}
    assert_zero_sides_are_zero(checkpoint, LAYERS)


def test_norms_and_scales_are_those_peft_applies(adapted) -> None:
    """‖scale·B·A‖ is the norm of the weight PEFT would add, per module and with patterns."""
    model, _fresh = adapted(
        rank_pattern={"layers.0.self_attn.q_proj": 2},
        alpha_pattern={r"layers\.1\.self_attn\..*": 3},
        use_rslora=True,
    )
    torch = pytest.importorskip("torch")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    path = _fresh.path.with_name("trained")
    model.save_pretrained(path)

    rows = measure(open_checkpoint(path), digest=False).pairs.to_pylist()

    assert len(rows) == 2 * LAYERS
    for row in rows:
        layer = model.get_submodule(f"base_model.model.{row['module']}")
        assert row["scale"] == pytest.approx(layer.scaling["default"])
        delta = layer.get_delta_weight("default").detach().double()
        assert row["norm"] == pytest.approx(float(torch.linalg.norm(delta)), rel=1e-5)
        assert (row["out_features"], row["in_features"]) == tuple(delta.shape)


def test_a_second_adapter_lies_in_its_own_folder(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, target_modules=["q_proj"])
    model = peft.get_peft_model(tiny_model(), config)
    model.add_adapter("critic", config)
    model.save_pretrained(tmp_path / "out")

    found = list(discover(tmp_path))

    assert [candidate.path.name for candidate in found] == ["out", "critic"]
    second = open_checkpoint(found[1].path)
    assert second.faults == ()
    assert {tensor.role for tensor in second.tensors} == {"lora_up", "lora_down"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps of the real Trainer with two steps of warm-up, saved at every step."""
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    output = tmp_path_factory.mktemp("run")
    model = peft.get_peft_model(
        tiny_model(), peft.LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    )
    ids = torch.arange(16) % VOCABULARY
    examples = [{"input_ids": ids, "labels": ids} for _ in range(24)]
    transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(output),
            max_steps=6,
            per_device_train_batch_size=2,
            warmup_steps=2,
            learning_rate=1e-3,
            logging_steps=1,
            save_steps=1,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=examples,
    ).train()
    return output


def test_a_real_trainers_checkpoints(trained: Path) -> None:
    """Every step is found in order, whole and complete, with its log and parts."""
    found = [open_checkpoint(candidate.path) for candidate in discover(trained)]

    assert [checkpoint.step for checkpoint in found] == [1, 2, 3, 4, 5, 6]
    for checkpoint in found:
        assert checkpoint.layout == "transformers-trainer"
        assert (checkpoint.complete, checkpoint.faults) == (True, ())
        assert {member.part for member in checkpoint.members} == {"weights", "optimizer", "state"}
        names = {metric.name for metric in checkpoint.metrics}
        assert names == {"loss", "grad_norm", "learning_rate"}
        assert all(math.isfinite(metric.value) for metric in checkpoint.metrics)
        assert_as_official(checkpoint)


def test_updates_done_never_tells_more_than_the_weights_show(trained: Path) -> None:
    """With warm-up the first step has learning rate 0: B is zero and no update is claimed.

    The run knows better than the log proves: step n made n - 1 updates.
    """
    for candidate in discover(trained):
        checkpoint = open_checkpoint(candidate.path)
        rows = measure(checkpoint, digest=False).tensors.to_pylist()
        ups = [row for row in rows if row["role"] == "lora_up"]
        is_untouched = all(row["zero_count"] == row["numel"] for row in ups)

        assert is_untouched == (checkpoint.step == 1)
        assert (checkpoint.updates_done or 0) <= checkpoint.step - 1
        if checkpoint.step == 1:
            assert checkpoint.updates_done == 0
        if checkpoint.step >= 3:
            assert checkpoint.updates_done


@pytest.mark.parametrize("shard_size", ["5GB", "20KB"])
def test_a_base_in_one_file_or_in_shards(tmp_path: Path, shard_size: str) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path, max_shard_size=shard_size)

    base = read_base(tmp_path)

    assert (base.scheme, base.compute_dtype) == ("none", "fp32")
    expected = {
        name.removesuffix(".weight"): tuple(value.shape)
        for name, value in model.state_dict().items()
    }
    found = {
        weight.module: tuple(
            extent for extent in (weight.out_features, weight.in_features) if extent is not None
        )
        for weight in base.weights
    }
    assert found == expected
    assert open_checkpoint(tmp_path).faults == ()


@pytest.mark.parametrize(
    ("options", "scheme", "compute_dtype"),
    [
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4", "fp32"),
        (
            {
                "load_in_4bit": True,
                "bnb_4bit_quant_type": "fp4",
                "bnb_4bit_use_double_quant": True,
                "bnb_4bit_compute_dtype": "bfloat16",
            },
            "fp4",
            "bf16",
        ),
        ({"load_in_8bit": True}, "int8", "fp32"),
    ],
)
def test_a_quantised_base_has_its_logical_shapes(
    tmp_path: Path, options: dict[str, Any], scheme: str, compute_dtype: str
) -> None:
    """Packed bytes are told by the shape of the weight they stand for; adapters join by module."""
    pytest.importorskip("bitsandbytes")
    transformers = pytest.importorskip("transformers")
    tiny_model().save_pretrained(tmp_path / "plain")
    quantised = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "plain", quantization_config=transformers.BitsAndBytesConfig(**options)
    )
    quantised.save_pretrained(tmp_path / "packed")

    base = read_base(tmp_path / "packed")
    plain = {weight.module: weight for weight in read_base(tmp_path / "plain").weights}

    assert (base.scheme, base.compute_dtype) == (scheme, compute_dtype)
    packed = [weight for weight in base.weights if weight.scheme == scheme]
    assert len(packed) == 7 * LAYERS
    for weight in base.weights:
        twin = plain[weight.module]
        assert (weight.out_features, weight.in_features) == (twin.out_features, twin.in_features)
    assert len(base.weights) == len(plain)
