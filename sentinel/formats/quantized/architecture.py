"""The shape that a model's configuration gives a linear layer, for packings that hide it.

Source: the `__init__` of attention and MLP in transformers/models/llama/modeling_llama.py and
its many relatives, which share the names of layers and of settings.
"""

from __future__ import annotations

from collections.abc import Mapping

from sentinel.formats.scalars import as_count

_HEADS = frozenset({"q_proj", "k_proj", "v_proj", "o_proj"})


def linear_shape(config: Mapping[str, object], module: str) -> tuple[int, int] | None:
    """Return [out, in] of a layer by its last name, None when the configuration does not tell.

    Whoever asks compares the product with what is stored: some models name a layer alike and
    make it larger.
    """
    name = module.rpartition(".")[2]
    hidden = as_count(config.get("hidden_size"))
    if not hidden:
        return None
    inner = _of_heads(config, name, hidden) if name in _HEADS else _of_mlp(config, name)
    if not inner:
        return None
    return (hidden, inner) if name in {"o_proj", "down_proj"} else (inner, hidden)


def _of_heads(config: Mapping[str, object], name: str, hidden: int) -> int | None:
    heads = as_count(config.get("num_attention_heads"))
    if not heads:
        return None
    width = as_count(config.get("head_dim")) or hidden // heads
    shared = as_count(config.get("num_key_value_heads")) or heads
    return width * (shared if name in {"k_proj", "v_proj"} else heads)


def _of_mlp(config: Mapping[str, object], name: str) -> int | None:
    known = {"gate_proj", "up_proj", "down_proj"}
    return as_count(config.get("intermediate_size")) if name in known else None
