"""A PEFT checkpoint as modules: which matrices, at which scale."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft.utils.other import get_pattern_key
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import RefusedError

if TYPE_CHECKING:
    import torch

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"

_PREFIX = "base_model.model."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
_MAGNITUDES = (".lora_magnitude_vector", ".lora_magnitude_vector.weight")
_OTHER_SUMS = (
    "alora_invocation_tokens",
    "layer_replication",
    "lora_bias",
    "target_parameters",
    "trainable_token_indices",
    "use_qalora",
)
"""Settings of PEFT's LoraConfig under which a module adds something else than scale * B @ A."""
_CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Values of init_lora_weights, or how they begin, under which PEFT changes the base at the start:
what the adapter says holds on that changed base alone (PEFT's developer guide on LoRA)."""


@dataclass(frozen=True, slots=True)
class Module:
    """One adapted module: its weight changes by ``scale * up @ down``.

    ``path`` is its name in the base. ``down`` is (rank, in) and ``up`` (out, rank); of a
    convolution (rank, in, height, width) and (out, rank, 1, 1). ``magnitude``, only of DoRA, is
    the length of each row of the weight, (out).
    """

    path: str
    down: torch.Tensor
    up: torch.Tensor
    scale: float
    magnitude: torch.Tensor | None = None

    @property
    def rank(self) -> int:
        """Return the rank, which is the number of rows of ``down``."""
        return int(self.down.shape[0])

    @property
    def alpha(self) -> float:
        """Return the alpha that, divided by the rank, is the scale."""
        return self.scale * self.rank


@dataclass(frozen=True, slots=True)
class Adapter:
    """A checkpoint's modules in the order of their names, with its adapter_config.json."""

    path: Path
    config: Mapping[str, Any]
    modules: tuple[Module, ...]

    @property
    def is_dora(self) -> bool:
        """Tell whether the modules carry magnitudes."""
        return any(module.magnitude is not None for module in self.modules)


def read_config(directory: Path) -> dict[str, Any]:
    """Return a checkpoint's adapter_config.json; RefusedError when it can't be read."""
    what = f"checkpoint '{directory}'"
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise RefusedError(what, f"{name} is missing", "name a directory in PEFT's layout")
    try:
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RefusedError(what, f"{CONFIG} can't be read ({error})") from error
    if not isinstance(config, dict):
        raise RefusedError(what, f"{CONFIG} is not a JSON object")
    return config


def read_adapter(directory: Path) -> Adapter:
    """Return a checkpoint's modules, or refuse what is no LoRA or DoRA through and through."""
    config = read_config(directory)
    _refuse_other_methods(directory, config)
    tensors = read_tensors(directory)
    parts: dict[str, dict[str, torch.Tensor]] = {}
    strangers = []
    for key, value in tensors.items():
        path, part = _place(key)
        if part:
            parts.setdefault(path, {})[part] = value
        else:
            strangers.append(key)
    if strangers:
        fact = f"{len(strangers)} tensors belong to no LoRA pair ('{strangers[0]}', ...)"
        todo = "these files have no place for them: use --to merged"
        raise RefusedError(f"checkpoint '{directory}'", fact, todo)
    if not parts:
        raise RefusedError(f"checkpoint '{directory}'", f"{WEIGHTS} holds no tensors")
    modules = tuple(_module(directory, config, path, parts[path]) for path in sorted(parts))
    return Adapter(directory, config, modules)


def read_tensors(directory: Path) -> dict[str, torch.Tensor]:
    """Return a checkpoint's tensors, or refuse a torn file or values that aren't finite."""
    what = f"checkpoint '{directory}'"
    try:
        tensors: dict[str, torch.Tensor] = load_file(directory / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise RefusedError(what, f"{WEIGHTS} can't be read ({error})") from error
    broken = [key for key, value in tensors.items() if not value.isfinite().all()]
    if broken:
        fact = f"{len(broken)} of {len(tensors)} tensors hold NaN or Inf ('{broken[0]}', ...)"
        raise RefusedError(what, fact, "export an earlier checkpoint")
    return tensors


def _place(key: str) -> tuple[str, str]:
    """Return the module a key belongs to and what it is there; no part for anything else."""
    path = key.removeprefix(_PREFIX)
    for ending, part in ((_DOWN, "down"), (_UP, "up")):
        if path.endswith(ending):
            return path.removesuffix(ending), part
    for ending in _MAGNITUDES:
        if path.endswith(ending):
            return path.removesuffix(ending), "magnitude"
    return path, ""


def _module(
    directory: Path, config: Mapping[str, Any], path: str, parts: Mapping[str, torch.Tensor]
) -> Module:
    """Return one module, its scale by the configuration's patterns as PEFT reads them."""
    what = f"checkpoint '{directory}'"
    for part in ("down", "up"):
        if part not in parts:
            raise RefusedError(what, f"module '{path}' lacks its {part} matrix")
    down, up = parts["down"], parts["up"]
    if down.ndim != up.ndim or down.ndim not in {2, 4} or up.shape[1] != down.shape[0]:
        fact = f"'{path}' has shapes {tuple(down.shape)} and {tuple(up.shape)}, no LoRA pair"
        raise RefusedError(what, fact)
    patterns = config.get("alpha_pattern") or {}
    alpha = patterns.get(get_pattern_key(patterns, path), config.get("lora_alpha"))
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        raise RefusedError(what, f"lora_alpha of '{path}' is {alpha!r} in {CONFIG}, not a number")
    rank = down.shape[0]
    scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    magnitude = parts.get("magnitude")
    if bool(config.get("use_dora")) != (magnitude is not None):
        fact = f"use_dora is {bool(config.get('use_dora'))}, but module '{path}' says otherwise"
        raise RefusedError(what, fact)
    return Module(path, down, up, scale, None if magnitude is None else magnitude.flatten())


def _refuse_other_methods(directory: Path, config: Mapping[str, Any]) -> None:
    """Refuse what scale * up @ down, on the base as it is published, does not describe."""
    what = f"checkpoint '{directory}'"
    merged = "use --to merged"
    if config.get("peft_type") != "LORA":
        raise RefusedError(what, f"its method is {config.get('peft_type')!r}, not LoRA", merged)
    for name in _OTHER_SUMS:
        if config.get(name):
            raise RefusedError(what, f"{name} is set, which these files can't say", merged)
    begun = config.get("init_lora_weights")
    if isinstance(begun, str) and begun.lower().startswith(_CHANGE_THE_BASE):
        fact = f"init_lora_weights '{begun}' changed the base, so the adapter fits no other"
        raise RefusedError(what, fact, merged)
