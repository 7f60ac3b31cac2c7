"""An adapter that PEFT trained on a model of Transformers, and both as llama.cpp has them."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.numpy import load_file

import sentinel

pytestmark = pytest.mark.trainer
torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

HEADS, KV_HEADS, LAYERS = 4, 2, 2


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Path]:
    """A tiny Llama and a LoRA on all its linear layers, after two steps."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        vocab_size=64,
    )
    model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(tmp_path / "model")
    lora = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, lora)
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], 1e-3)
    for _ in range(2):
        tokens = torch.randint(0, 64, (2, 8))
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter", tmp_path / "model"


def permuted(key: str, values):
    """Return the rows of q and k in llama.cpp's order, as `LlamaModel.permute` does."""
    heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(key.split(".")[-2], 0)
    if not heads:
        return values
    halves = values.reshape(heads, 2, len(values) // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def test_an_adapter_is_the_same_on_both_sides(writing, trained) -> None:
    """Modules, ranks, scales and the norms of the changes; and both fit both bases."""
    adapter, model = trained
    stored = load_file(adapter / "adapter_model.safetensors")
    keys = [key for key in stored if key.endswith(".lora_A.weight")]
    sides = {
        key.removeprefix("base_model.model.").replace(".lora_A", ""): (
            stored[key],
            permuted(key.replace(".lora_A", ""), stored[key.replace("lora_A", "lora_B")]),
        )
        for key in keys
    }
    tensors = load_file(model / "model.safetensors")
    whole = {key: permuted(key, values) for key, values in tensors.items()}
    lora = writing.lora("lora.gguf", writing.renamed(sides, LAYERS), alpha=8.0)
    base = writing.model("base.gguf", writing.renamed(whole, LAYERS), kind="Q8_0")

    ours, theirs = (
        sentinel.scan(path, base=packed, settle_s=0)[0]
        for path, packed in ((lora, base), (adapter, model))
    )

    changes = {row["module"]: row for row in ours.measured.pairs.to_pylist()}
    peft_rows = theirs.measured.pairs.to_pylist()
    names = writing.renamed({f"{row['module']}.weight": row for row in peft_rows}, LAYERS)
    assert len(changes) == len(names) == 7 * LAYERS
    for name, row in names.items():
        own = changes[name.removesuffix(".weight")]
        assert own["norm"] == pytest.approx(row["norm"], rel=1e-9)
        for column in ("rank", "scale", "out_features", "in_features", "up_l2", "down_l2"):
            assert own[column] == pytest.approx(row[column]), column
    for path in (lora, adapter):
        for packed in (base, model):
            (judgement,) = sentinel.scan(path, base=packed, settle_s=0)
            assert judgement.verdict.findings == ()
            asked = {one.rule for one in judgement.verdict.not_evaluated}
            assert not asked & {"adapter-keys-mismatch-base", "adapter-shape-mismatch-base"}
