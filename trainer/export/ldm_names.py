"""From diffusers' names in Stable Diffusion's UNet to those of the original code.

Both number the same blocks: the original counts resnets and samplers in one list each for the
way down and the way up. Source: diffusers' `convert_original_stable_diffusion_to_diffusers.py`.
"""

from __future__ import annotations

import re

_FIXED = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_DOWN = re.compile(r"down_blocks\.(\d+)\.(resnets|attentions|downsamplers)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")
_UP = re.compile(r"up_blocks\.(\d+)\.(resnets|attentions|upsamplers)\.(\d+)\.(.+)")


def ldm_name(path: str, *, plain_up_blocks: frozenset[int]) -> str | None:
    """Return the original name of a module, None for one it does not have.

    ``plain_up_blocks`` are the blocks on the way up without attention: their upsampler is
    second in its list, not third.
    """
    if match := _DOWN.fullmatch(path):
        return _down(int(match[1]), match[2], int(match[3]), match[4])
    if match := _MIDDLE.fullmatch(path):
        return _middle(match[1], int(match[2]), match[3])
    if match := _UP.fullmatch(path):
        block, kind, index, rest = int(match[1]), match[2], int(match[3]), match[4]
        if kind == "upsamplers":
            place = 1 if block in plain_up_blocks else 2
            return f"output_blocks.{3 * block + 2}.{place}.{rest}"
        return _inside(f"output_blocks.{3 * block + index}", kind, rest)
    return _FIXED.get(path)


def _down(block: int, kind: str, index: int, rest: str) -> str | None:
    if kind == "downsamplers":
        return f"input_blocks.{3 * block + 3}.0.op" if rest == "conv" else None
    return _inside(f"input_blocks.{3 * block + index + 1}", kind, rest)


def _middle(kind: str, index: int, rest: str) -> str | None:
    if kind == "attentions":
        return f"middle_block.1.{rest}"
    return _joined(f"middle_block.{2 * index}", _RESNET.get(rest))


def _inside(place: str, kind: str, rest: str) -> str | None:
    """Return the name in a pair of a resnet (0) and the attention behind it (1)."""
    if kind == "attentions":
        return f"{place}.1.{rest}"
    return _joined(f"{place}.0", _RESNET.get(rest))


def _joined(place: str, rest: str | None) -> str | None:
    return None if rest is None else f"{place}.{rest}"
