"""Which keys PEFT loads and which it passes over: the rule says of each file what PEFT does."""

from __future__ import annotations

import warnings
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

RULE = "adapter-keys-load-nothing"
ROOT = "base_model.model."

LOADED: dict[str, Callable[[str], str]] = {
    "as PEFT saves them": lambda key: key,
    "with the adapter's name": lambda key: key.replace(".weight", ".default.weight"),
}
PASSED_OVER: dict[str, Callable[[str], str]] = {
    "without the prefix": lambda key: key.removeprefix(ROOT),
    "without base_model.": lambda key: key.removeprefix("base_model."),
    "below another module": lambda key: f"model.{key}",
    "of a pipeline's transformer": lambda key: key.replace(ROOT, "transformer.", 1),
    "of data-parallel training": lambda key: f"module.{key}",
    "of a compiled adapter": lambda key: f"_orig_mod.{key}",
    "of a compiled model": lambda key: key.replace(ROOT, f"{ROOT}_orig_mod.", 1),
    "of sharded training": lambda key: key.replace(".mlp.", ".mlp._fsdp_wrapped_module."),
    "of checkpointed blocks": lambda key: key.replace(".mlp.", "._checkpoint_wrapped_module.mlp."),
    "of an adapter over an adapter": lambda key: key.replace(".lora_", ".base_layer.lora_"),
    "in kohya's names": lambda key: key.replace("lora_A", "lora_down").replace("lora_B", "lora_up"),
}


def tiny() -> Any:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            vocab_size=32,
        )
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter whose up matrices are all one half, on modules of the MLPs."""
    config = peft.LoraConfig(r=2, target_modules=["up_proj", "down_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(tiny(), config)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            value.data.fill_(0.5)
    path = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(path)
    return path


def renamed(saved: Path, path: Path, rename: Callable[[str], str]) -> Path:
    tensors = safetensors_torch.load_file(saved / "adapter_model.safetensors")
    found = {rename(key): value for key, value in tensors.items()}
    safetensors_torch.save_file(found, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_bytes((saved / "adapter_config.json").read_bytes())
    return path


def loaded_count(path: Path) -> int:
    """How many of the up matrices PEFT takes from a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all that PEFT has to say about it
        model = peft.PeftModel.from_pretrained(tiny(), path)
    ups = [value for name, value in model.named_parameters() if "lora_B" in name]
    assert len(ups) == 4
    return sum(bool((value == 0.5).all()) for value in ups)


def told(path: Path) -> list[str]:
    (judgement,) = sentinel.scan(path, settle_s=0)
    return [found.message for found in judgement.verdict.findings if found.rule == RULE]


@pytest.mark.parametrize("case", LOADED)
def test_what_peft_loads_is_no_finding(tmp_path: Path, saved: Path, case: str) -> None:
    path = renamed(saved, tmp_path, LOADED[case])

    assert loaded_count(path) == 4
    assert told(path) == []


@pytest.mark.parametrize("case", PASSED_OVER)
def test_what_peft_passes_over_is_told(tmp_path: Path, saved: Path, case: str) -> None:
    path = renamed(saved, tmp_path, PASSED_OVER[case])

    assert loaded_count(path) == 0
    (message,) = told(path)
    assert message.startswith("8 of 8 adapter tensors would be loaded nowhere")


def test_unexpected_and_missing_keys_are_as_many_as_the_rule_counts(
    tmp_path: Path, saved: Path
) -> None:
    """Half of the keys behind a wrapper: PEFT's own result names exactly those."""
    path = renamed(saved, tmp_path, lambda key: key.replace("down_proj", "_orig_mod.down_proj"))
    config = peft.LoraConfig(r=2, target_modules=["up_proj", "down_proj"])
    model = peft.get_peft_model(tiny(), config)

    result = peft.set_peft_model_state_dict(
        model, safetensors_torch.load_file(path / "adapter_model.safetensors")
    )

    assert len(result.unexpected_keys) == 4
    assert len([key for key in result.missing_keys if "lora_" in key]) == 4
    (message,) = told(path)
    assert message.startswith("4 of 8 adapter tensors would be loaded nowhere")


def test_stacked_experts_are_no_finding(tmp_path: Path) -> None:
    """PEFT nests the adapters of two parameters of one module, and loads them again."""
    config = transformers.GptOssConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=32,
        num_local_experts=2,
        num_experts_per_tok=1,
        layer_types=["full_attention"],
    )
    model = transformers.GptOssForCausalLM(config)
    model.save_pretrained(tmp_path / "base")
    experts = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    wrapped = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules=["q_proj"], target_parameters=experts)
    )
    wrapped.save_pretrained(tmp_path / "adapter")

    (judgement,) = sentinel.scan(tmp_path / "adapter", base=tmp_path / "base", settle_s=0)

    keys = safetensors_torch.load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert any(".experts.base_layer.lora_A" in key for key in keys)
    about = {RULE, "adapter-keys-mismatch-base", "adapter-shape-mismatch-base"}
    assert not about & {found.rule for found in judgement.verdict.findings}
    assert not about & {one.rule for one in judgement.verdict.not_evaluated}


@pytest.mark.parametrize("head", ["tied", "own"])
def test_a_vision_language_model(tmp_path: Path, head: str) -> None:
    """Transformers saves other prefixes than it has in memory, and a tied head not at all."""
    vision = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    config = transformers.LlavaConfig(
        vision_config=vision,
        text_config=tiny().config,
        image_token_index=31,
        tie_word_embeddings=head == "tied",
    )
    model = transformers.LlavaForConditionalGeneration(config)
    model.save_pretrained(tmp_path / "base")
    targets = [*(f"{name}_proj" for name in "qkv"), "fc1", "lm_head", "embed_tokens"]
    peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=targets)).save_pretrained(
        tmp_path / "adapter"
    )

    (judgement,) = sentinel.scan(tmp_path / "adapter", base=tmp_path / "base", settle_s=0)

    stored = safetensors_torch.load_file(tmp_path / "base" / "model.safetensors")
    kept = safetensors_torch.load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert any(key.startswith("language_model.model.") for key in stored)
    assert any(key.startswith(f"{ROOT}model.language_model.") for key in kept)
    about = {RULE, "adapter-keys-mismatch-base", "adapter-shape-mismatch-base"}
    assert not about & {found.rule for found in judgement.verdict.findings}
    assert not about & {one.rule for one in judgement.verdict.not_evaluated}
