"""What llama.cpp calls the modules of common language models.

A module has one name in Transformers and another in GGUF; a few names mean different things in
different models, and then all of them are told. Source: gguf/tensor_mapping.py of
https://github.com/ggml-org/llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

LAYER = "blk."

_STACKS = frozenset({"layers", "h", "blocks", "layer"})
_PREFIXES = frozenset(
    {
        "model", "transformer", "language_model", "text_model", "gpt_neox", "decoder", "encoder",
        "backbone", "llm", "thinker",
    }
)  # fmt: skip
"""Segments before the layers of a language model; those of a vision tower are not among them."""

_OUTER: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "embed_tokens": ("token_embd",),
        "wte": ("token_embd",),
        "word_embeddings": ("token_embd",),
        "embed_in": ("token_embd",),
        "tok_embeddings": ("token_embd",),
        "lm_head": ("output",),
        "embed_out": ("output",),
        "norm": ("output_norm",),
        "ln_f": ("output_norm",),
        "final_layernorm": ("output_norm",),
        "final_layer_norm": ("output_norm",),
    }
)

_INNER: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **{
            f"attn_{letter}": (
                f"self_attn.{letter}_proj",
                f"attn.{letter}_proj",
                f"attn.attention.{letter}_proj",
                f"attention.w{letter}",
                f"mixer.{letter}_proj",
            )
            for letter in "qkv"
        },
        "time_mix_receptance": ("self_attn.q_proj",),
        "time_mix_key": ("self_attn.k_proj",),
        "time_mix_value": ("self_attn.v_proj",),
        "time_mix_output": ("self_attn.o_proj",),
        "attn_qkv": (
            "self_attn.qkv_proj",
            "self_attn.query_key_value",
            "self_attention.query_key_value",
            "attention.query_key_value",
            "attn.c_attn",
            "attn.qkv_proj",
            "attn.Wqkv",
            "mixer.Wqkv",
            "linear_attn.in_proj_qkv",
        ),
        "attn_output": (
            "self_attn.o_proj",
            "self_attn.out_proj",
            "self_attn.dense",
            "self_attention.dense",
            "attention.dense",
            "attention.wo",
            "attn.c_proj",
            "attn.out_proj",
            "attn.Wo",
            "attn.attention.out_proj",
            "mixer.out_proj",
            "mixer.o_proj",
        ),
        "attn_gate": ("linear_attn.in_proj_z", "self_attn.gate_proj", "self_attn.g_proj"),
        "attn_q_a": ("self_attn.q_a_proj",),
        "attn_q_b": ("self_attn.q_b_proj",),
        "attn_kv_a_mqa": ("self_attn.kv_a_proj_with_mqa",),
        "attn_kv_b": ("self_attn.kv_b_proj",),
        "attn_q_norm": ("self_attn.q_norm", "self_attn.q_layernorm", "attn.q_norm"),
        "attn_k_norm": ("self_attn.k_norm", "self_attn.k_layernorm", "attn.k_norm"),
        "ffn_gate": (
            "mlp.gate_proj",
            "mlp.c_fc_0",
            "mlp.w2",
            "feed_forward.w1",
            "feed_forward.gate_proj",
        ),
        "ffn_up": (
            "mlp.up_proj",
            "mlp.gate_up_proj",
            "mlp.dense_h_to_4h",
            "mlp.c_fc",
            "mlp.c_fc_1",
            "mlp.fc1",
            "mlp.w1",
            "mlp.fc_in",
            "feed_forward.w3",
            "feed_forward.up_proj",
            "mixer.up_proj",
        ),
        "ffn_down": (
            "mlp.down_proj",
            "mlp.dense_4h_to_h",
            "mlp.c_proj",
            "mlp.fc2",
            "mlp.fc_out",
            "feed_forward.w2",
            "feed_forward.down_proj",
            "mixer.down_proj",
        ),
        "ffn_gate_inp": ("mlp.gate", "block_sparse_moe.gate", "feed_forward.router", "mlp.router"),
        **{
            f"ffn_{part}_shexp": (
                f"mlp.shared_experts.{part}_proj",
                f"mlp.shared_expert.{part}_proj",
                f"feed_forward.shared_expert.{part}_proj",
            )
            for part in ("gate", "up", "down")
        },
        "ssm_in": ("mixer.in_proj", "mamba.in_proj", "linear_attn.in_proj_qkvz"),
        "ssm_out": ("mixer.out_proj", "mamba.out_proj", "linear_attn.out_proj"),
        "ssm_x": ("mixer.x_proj", "mamba.x_proj"),
        "ssm_dt": ("mixer.dt_proj", "mamba.dt_proj"),
        "ssm_ba": ("linear_attn.in_proj_ba",),
        "ssm_alpha": ("linear_attn.in_proj_a",),
        "ssm_beta": ("linear_attn.in_proj_b",),
        "attn_norm": ("input_layernorm", "ln_1", "attention_norm"),
        "post_attention_norm": ("post_attention_layernorm",),
        "ffn_norm": ("post_attention_layernorm", "pre_feedforward_layernorm", "ln_2", "ffn_norm"),
        "post_ffw_norm": ("post_feedforward_layernorm",),
    }
)
"""Name behind the layer's number → the names that Transformers' models have for it."""


def _turned(table: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name, others in table.items():
        for other in others:
            found.setdefault(other, []).append(name)
    return MappingProxyType({other: tuple(names) for other, names in found.items()})


_LAYER_NAMES = _turned(_INNER)


def is_gguf_name(module: str) -> bool:
    """Tell whether a module is named as llama.cpp names those of a layer."""
    return module.startswith(LAYER)


def gguf_names(module: str) -> tuple[str, ...]:
    """Return what llama.cpp may call a module of Transformers', nothing when that is unknown."""
    segments = module.split(".")
    at = next((place for place, segment in enumerate(segments) if segment.isdigit()), None)
    if at is None:
        prefix, last = segments[:-1], segments[-1]
        return _OUTER.get(last, ()) if _PREFIXES.issuperset(prefix) else ()
    if at == 0 or segments[at - 1] not in _STACKS or not _PREFIXES.issuperset(segments[: at - 1]):
        return ()
    names = _LAYER_NAMES.get(".".join(segments[at + 1 :]), ())
    return tuple(f"{LAYER}{segments[at]}.{name}" for name in names)
