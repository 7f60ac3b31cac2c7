"""The table of names against the one that the gguf package publishes, over every architecture."""

from __future__ import annotations

import pytest

from sentinel.stats.base_match import match_modules
from sentinel.stats.gguf_names import gguf_names

USUAL = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
         "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]  # fmt: skip
OTHERS = [
    "transformer.h.3.attn.c_attn",
    "transformer.h.3.mlp.c_fc",
    "gpt_neox.layers.3.attention.query_key_value",
    "gpt_neox.layers.3.mlp.dense_4h_to_h",
    "transformer.h.3.self_attention.query_key_value",
    "model.layers.3.self_attn.qkv_proj",
    "model.layers.3.mlp.gate_up_proj",
    "model.layers.3.self_attn.q_a_proj",
    "model.layers.3.mlp.shared_expert.up_proj",
    "model.layers.3.linear_attn.out_proj",
]
NORMS = ("norm", "norm_2", "norm_exps")


def test_every_name_told_is_the_packages() -> None:
    """Of whatever architecture: what the table gives for a key holds what the package gives."""
    gguf = pytest.importorskip("gguf")
    checked, wrong = 0, set()
    for arch in gguf.MODEL_ARCH:
        for key, (_kind, name) in gguf.get_tensor_name_map(arch, 2).mapping.items():
            ours = gguf_names(key)
            if not ours or name.endswith(NORMS):
                continue
            checked += 1
            if name not in ours:
                wrong.add((key.replace("1", "0"), name.replace("1", "0")))

    assert checked > 20_000
    # The package has this name among those of two tensors.
    assert wrong == {("model.layers.0.feed_forward.down_proj", "blk.0.ffn_up_shexp")}


@pytest.mark.parametrize("key", [*(f"model.layers.3.{name}" for name in USUAL), *OTHERS])
def test_the_usual_modules_are_known(key: str) -> None:
    gguf = pytest.importorskip("gguf")
    theirs = {
        found
        for arch in gguf.MODEL_ARCH
        if (found := gguf.get_tensor_name_map(arch, 4).get_name(key)) is not None
    }

    assert set(gguf_names(key)) & theirs


@pytest.mark.parametrize(
    "key",
    [
        "vision_tower.encoder.layers.0.self_attn.q_proj",
        "model.visual.blocks.0.attn.qkv",
        "model.layers.0.mlp.experts.3.up_proj",
        "double_blocks.0.img_attn.qkv",
        "lora_unet_down_blocks_0",
        "0.self_attn.q_proj",
        "",
    ],
)
def test_other_modules_have_no_name(key: str) -> None:
    assert gguf_names(key) == ()


def test_modules_meet_from_either_side() -> None:
    hf = [f"model.layers.{layer}.{name}" for layer in range(3) for name in USUAL]
    packed = [f"blk.{layer}.attn_{letter}" for layer in range(2) for letter in "qkv"]

    matched = match_modules(hf, packed)

    assert len(matched) == 6
    assert matched["model.layers.1.self_attn.k_proj"] == "blk.1.attn_k"
    assert match_modules(packed, hf) == {theirs: own for own, theirs in matched.items()}
    assert match_modules(packed, packed) == {name: name for name in packed}


def test_a_wrapping_model_class_does_not_matter() -> None:
    for prefix in ("", "model.", "language_model.model.", "model.language_model.", "llm.model."):
        module = f"{prefix}layers.0.self_attn.q_proj"
        assert match_modules([module], ["blk.0.attn_q"]) == {module: "blk.0.attn_q"}


def test_no_module_is_given_twice() -> None:
    modules = ["model.layers.0.mlp.up_proj", "model.layers.0.mlp.gate_up_proj"]
    assert len(match_modules(modules, ["blk.0.ffn_up"])) == 1
