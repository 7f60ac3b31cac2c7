"""From diffusers' modules of Flux to those of the original code, which fuses some of them.

The original's `qkv` is diffusers' query, key and value below one another, and `linear1` of a
single block the MLP's projection below these. Their adapters become one: the down matrices
below one another, the up matrices on the diagonal, zero for a part that was not adapted.
Source: diffusers' `convert_flux_to_diffusers.py` and the original's `modules/layers.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from ..errors import RefusedError
from .adapter import Module

_FIXED = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
_DOUBLE = {
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "ff.net.0.proj": "img_mlp.0",
    "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
    "norm1.linear": "img_mod.lin",
    "norm1_context.linear": "txt_mod.lin",
}
_SINGLE = {"proj_out": "linear2", "norm.linear": "modulation.lin"}
_FUSED = {
    ("transformer_blocks", "img_attn.qkv"): ("attn.to_q", "attn.to_k", "attn.to_v"),
    ("transformer_blocks", "txt_attn.qkv"): (
        "attn.add_q_proj",
        "attn.add_k_proj",
        "attn.add_v_proj",
    ),
    ("single_transformer_blocks", "linear1"): (
        "attn.to_q",
        "attn.to_k",
        "attn.to_v",
        "proj_mlp",
    ),
}
_BLOCK = re.compile(r"(transformer_blocks|single_transformer_blocks)\.(\d+)\.(.+)")
_NATIVE = {"transformer_blocks": "double_blocks", "single_transformer_blocks": "single_blocks"}
_MLP_WIDTH = 4
"""How many times wider than the model its MLP is (mlp_ratio of every released Flux)."""


def native_modules(modules: Sequence[Module]) -> list[Module]:
    """Return the modules as the original has them; RefusedError for one it does not have."""
    fused: dict[str, list[Module | None]] = {}
    result = []
    for module in modules:
        match = _BLOCK.fullmatch(module.path)
        block, number, rest = match.groups() if match else ("", "", module.path)
        whole, part = _whole(block, rest)
        if whole:
            parts: list[Module | None] = [None] * len(_FUSED[block, whole])
            fused.setdefault(f"{_NATIVE[block]}.{number}.{whole}", parts)[part] = module
            continue
        names = {"transformer_blocks": _DOUBLE, "single_transformer_blocks": _SINGLE}
        name = names.get(block, _FIXED).get(rest)
        if name is None:
            raise RefusedError(f"module '{module.path}'", "is not one of Flux")
        place = f"{_NATIVE[block]}.{number}.{name}" if block else name
        result.append(_renamed(module, place, swapped=module.path == "norm_out.linear"))
    return [*result, *(fuse(path, parts) for path, parts in fused.items())]


def fuse(path: str, parts: Sequence[Module | None]) -> Module:
    """Return one module that changes its rows as the parts, one below the other, do.

    Parts of other scales than the largest have their up matrix multiplied, so that one holds.
    """
    there = [part for part in parts if part is not None]
    if any(part.magnitude is not None for part in there) and len(there) < len(parts):
        fact = "DoRA on some of the modules that the original fuses has no form there"
        raise RefusedError(f"module '{path}'", fact, "use --to diffusers")
    width = there[0].down.shape[1]
    scale = max((part.scale for part in there), key=abs)
    rows: list[torch.Tensor] = []
    column, rank = 0, sum(part.rank for part in there)
    for place, part in enumerate(parts):
        height = width * (_MLP_WIDTH if place == len(_FUSED_QKV) else 1)
        block = torch.zeros(
            height if part is None else part.up.shape[0], rank, dtype=there[0].up.dtype
        )
        if part is not None:
            own = part.up if part.scale == scale else (part.up.double() * (part.scale / scale))
            block[:, column : column + part.rank] = own.to(block.dtype)
            column += part.rank
        rows.append(block)
    magnitudes = [part.magnitude for part in there if part.magnitude is not None]
    return Module(
        path,
        torch.cat([part.down for part in there]),
        torch.cat(rows),
        scale,
        torch.cat(magnitudes) if magnitudes else None,
    )


_FUSED_QKV = _FUSED["transformer_blocks", "img_attn.qkv"]


def _whole(block: str, rest: str) -> tuple[str, int]:
    """Return which fused module a module is part of, and which part; "" for none."""
    for (kind, whole), parts in _FUSED.items():
        if kind == block and rest in parts:
            return whole, parts.index(rest)
    return "", 0


def _renamed(module: Module, path: str, *, swapped: bool) -> Module:
    """Return a module under another name; ``swapped``: its output's halves change places.

    diffusers has scale before shift in the last layer's modulation, the original after it.
    """
    up, magnitude = module.up, module.magnitude
    if swapped:
        up = torch.cat(up.chunk(2)[::-1])
        magnitude = None if magnitude is None else torch.cat(magnitude.chunk(2)[::-1])
    return Module(path, module.down, up, module.scale, magnitude)
