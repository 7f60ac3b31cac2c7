"""The segments of keys that name an adapter's tensors, for every family of PEFT and LyCORIS.

A marker is one segment of a key (``lora_A``), or two where the second decides (``glora_A.Xd``).
It tells the tensor's role and family, and by which ways of initialising it starts at zero: the
same family starts the opposite side at zero in different libraries.

Sources: peft/tuners/*/layer.py (`reset_lora_parameters` and its like) of
https://github.com/huggingface/peft, lycoris/modules/*.py of
https://github.com/KohakuBlueleaf/LyCORIS, networks/lora.py of
https://github.com/kohya-ss/sd-scripts, toolkit/network_mixins.py of
https://github.com/ostris/ai-toolkit.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from sentinel.checkpoint import Role

Way = Literal["peft", "lycoris", "scalar"]
"""PEFT's default initialisation, LyCORIS' (and its relatives'), and LyCORIS' with `use_scalar`,
which starts a factor at zero and multiplies it into another tensor when it saves."""

_NEVER: frozenset[Way] = frozenset()
_EVERYWHERE: frozenset[Way] = frozenset({"peft", "lycoris", "scalar"})
_PEFT: frozenset[Way] = frozenset({"peft"})
_LYCORIS: frozenset[Way] = frozenset({"lycoris"})
_SCALAR: frozenset[Way] = frozenset({"scalar"})


class Marker(NamedTuple):
    """What a segment of a key says; ``zero`` are the ways that start the tensor at zero."""

    role: Role
    family: str
    zero: frozenset[Way] = _NEVER


def _part(family: str, zero: frozenset[Way] = _NEVER) -> Marker:
    return Marker("adapter", family, zero)


_LORA_UP = Marker("lora_up", "lora", _EVERYWHERE)
_LORA_DOWN = Marker("lora_down", "lora")
_MAGNITUDE = Marker("magnitude", "lora")

DIFFUSERS_MARKERS: Mapping[str, Marker] = MappingProxyType({"down": _LORA_DOWN, "up": _LORA_UP})
"""Last segments of diffusers' older keys, behind ``lora``, ``lora_linear_layer``, ``to_q_lora``."""

MARKERS: Mapping[str, Marker] = MappingProxyType(
    {
        "lora_A": _LORA_DOWN,
        "lora_B": _LORA_UP,
        "lora_down": _LORA_DOWN,
        "lora_up": _LORA_UP,
        "lora_a": _LORA_DOWN,  # llama.cpp: `blk.0.attn_q.weight.lora_a`
        "lora_b": _LORA_UP,
        "lora_mid": Marker("lora_mid", "lora"),
        # An embedding is looked up in A first, so there PEFT zeroes A.
        "lora_embedding_A": Marker("lora_down", "lora", _EVERYWHERE),
        "lora_embedding_B": Marker("lora_up", "lora"),
        "lora_magnitude_vector": _MAGNITUDE,
        "dora_scale": _MAGNITUDE,
        "lora_E": _part("adalora", _EVERYWHERE),
        "hada_w1_a": _part("loha", _SCALAR),
        "hada_w1_b": _part("loha"),
        "hada_w2_a": _part("loha", _LYCORIS),
        "hada_w2_b": _part("loha", _PEFT),
        "hada_t1": _part("loha"),
        "hada_t2": _part("loha"),
        "lokr_w1": _part("lokr", _PEFT | _SCALAR),
        "lokr_w1_a": _part("lokr", _PEFT | _SCALAR),
        "lokr_w1_b": _part("lokr"),
        "lokr_w2": _part("lokr", _LYCORIS),
        "lokr_w2_a": _part("lokr"),
        "lokr_w2_b": _part("lokr", _LYCORIS),
        "lokr_t2": _part("lokr"),
        "lora_velora_embed": _part("lora"),
        "oft_R": _part("oft", _EVERYWHERE),
        "oft_R.scaled_oft": _part("oft"),
        "oft_blocks": _part("oft", _EVERYWHERE),
        "boft_R": _part("boft", _EVERYWHERE),
        "boft_s": _part("boft"),
        "ia3_l": _part("ia3"),
        "on_input": _part("ia3"),
        "vera_A": _part("vera"),
        "vera_B": _part("vera"),
        "vera_lambda_b": _part("vera", _EVERYWHERE),
        "vera_lambda_d": _part("vera"),
        "pvera_A": _part("pvera"),
        "pvera_B": _part("pvera"),
        "pvera_lambda_b": _part("pvera", _EVERYWHERE),
        "pvera_lambda_d": _part("pvera"),
        "vblora_logits_A": _part("vblora"),
        "vblora_logits_B": _part("vblora"),
        **{
            f"vblora_logits_{side}_topk_{kept}": _part("vblora")
            for side in "AB"
            for kept in ("weights", "indices")
        },
        "vblora_vector_bank": _part("vblora"),
        "randlora_A": _part("randlora"),
        "randlora_B": _part("randlora"),
        "randlora_lambda": _part("randlora", _EVERYWHERE),
        "randlora_gamma": _part("randlora"),
        "fourierft_spectrum": _part("fourierft", _EVERYWHERE),
        "waveft_spectrum": _part("waveft", _EVERYWHERE),
        "c3a_kernel": _part("c3a", _EVERYWHERE),
        "hra_u": _part("hra"),
        "miss_block": _part("miss", _EVERYWHERE),
        "bone_block": _part("bone", _EVERYWHERE),
        "shira_weight": _part("shira", _EVERYWHERE),
        "shira_indices": _part("shira"),
        "road_theta": _part("road", _EVERYWHERE),
        "road_alpha": _part("road"),
        "delora_A": _part("delora"),
        "delora_B": _part("delora", _EVERYWHERE),
        "delora_lambda": _part("delora"),
        "delora_w_norm": _part("delora"),
        "gralora_A": _part("gralora"),
        "gralora_B": _part("gralora", _EVERYWHERE),
        "gralora_A_general": _part("gralora"),
        "gralora_B_general": _part("gralora", _EVERYWHERE),
        "hira_A": _part("hira"),
        "hira_B": _part("hira", _EVERYWHERE),
        "hira_embedding_A": _part("hira", _EVERYWHERE),
        "hira_embedding_B": _part("hira"),
        "glora_A": _part("glora", _EVERYWHERE),
        "glora_B": _part("glora", _EVERYWHERE),
        "glora_C": _part("glora", _EVERYWHERE),
        "glora_D": _part("glora", _EVERYWHERE),
        "glora_E": _part("glora", _EVERYWHERE),
        **{f"glora_{name}.Xu": _part("glora") for name in "ABCDE"},
        "adamss_A": _part("adamss"),
        "adamss_B": _part("adamss", _EVERYWHERE),
        "adamss_newB": _part("adamss"),
        "shadow_down": _part("shadow"),
        "shadow_up": _part("shadow", _EVERYWHERE),
        "shadow_update_gate": _part("shadow"),
        "shadow_update_transform": _part("shadow"),
        "shadow_backbone": _part("shadow"),
        "shadow_projection": _part("shadow"),
        "shadow_hidden_projection": _part("shadow"),
        "shadow_head": _part("shadow"),
        "lily_A": _part("lily"),
        "lily_B": _part("lily", _EVERYWHERE),
        "lily_router": _part("lily"),
        "poly_lora_A": _part("poly"),
        "poly_lora_B": _part("poly", _EVERYWHERE),
        "poly_router": _part("poly"),
        "peanut_A": _part("peanut"),
        "peanut_B": _part("peanut", _EVERYWHERE),
        "beft_bias": _part("beft", _EVERYWHERE),
        "adaption_gate": _part("adaption_prompt", _EVERYWHERE),
        "adaption_prompt": _part("adaption_prompt"),
        "psoft_R": _part("psoft", _EVERYWHERE),
        "psoft_R.vector_a": _part("psoft"),
        "psoft_R.vector_b": _part("psoft"),
        "supertuning_lora_A": _part("supertuning"),
        "supertuning_lora_B": _part("supertuning", _EVERYWHERE),
        "supertuning_values": _part("supertuning", _EVERYWHERE),
        "supertuning_indices": _part("supertuning"),
        "tinylora_A": _part("tinylora"),
        "tinylora_B": _part("tinylora"),
        "tinylora_P": _part("tinylora"),
        "tinylora_v": _part("tinylora", _EVERYWHERE),
        "unilora_theta_d": _part("unilora"),
        "unilora_indices": _part("unilora"),
        "unilora_scales": _part("unilora"),
        "deft_P": _part("deft"),
        "deft_R": _part("deft"),
        "frod_V": _part("frod"),
        "frod_lambda_l": _part("frod"),
        "frod_lambda_s_values": _part("frod", _EVERYWHERE),
        "frod_s_indices": _part("frod"),
        "frod_s_size": _part("frod"),
        "osf_svd_params": _part("osf"),
        "ln_tuning_layers": _part("ln_tuning"),
        "trainable_tokens_delta": _part("trainable_tokens"),
        "prompt_embeddings": _part("prompt"),
        "prefix_task_cols": _part("prompt"),
        "prefix_task_rows": _part("prompt"),
        "bundle_emb": _part("embedding"),
    }
)
"""Segments that alone make a tensor part of an adapter."""

SIBLING_MARKERS: Mapping[str, Marker] = MappingProxyType(
    {
        "alpha": Marker("alpha", "lora"),
        "magnitude": _MAGNITUDE,
        "rescale": _part("oft"),
        "diff": _part("full", _EVERYWHERE),
        "diff_b": _part("full", _EVERYWHERE),
        "w_norm": _part("norm", _EVERYWHERE),
        "b_norm": _part("norm", _EVERYWHERE),
        "a1": _part("glora"),
        "a2": _part("glora", _EVERYWHERE),
        "b1": _part("glora"),
        "b2": _part("glora", _EVERYWHERE),
        "p_layer": _part("tlora"),
        "q_layer": _part("tlora"),
        "lambda_layer": _part("tlora"),
    }
)
"""Segments that other models use too: they count beside a marker, or under a flat prefix."""
