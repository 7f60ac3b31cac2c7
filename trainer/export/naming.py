"""An adapter's tensors under the names of kohya's tools, diffusers and ComfyUI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from ..errors import RefusedError
from .adapter import Adapter, Module
from .architectures import Architecture, Naming
from .flux_names import native_modules
from .ldm_names import ldm_name

Target = Literal["kohya", "diffusers", "comfy"]
Tensors = dict[str, torch.Tensor]


def renamed(adapter: Adapter, architecture: Architecture, target: Target) -> tuple[Module, ...]:
    """Return the modules by the names that the target's program has, without its prefix.

    Raises RefusedError for a base that the program does not know, or has no such module of.
    """
    prefix = getattr(architecture, target)
    if prefix is None:
        fact = f"{target} has no names for {architecture.title}"
        raise RefusedError(f"checkpoint '{adapter.path}'", fact, "use another --to, or say --as")
    naming: Naming = "diffusers"
    if target == "kohya":
        naming = architecture.kohya_naming
    elif target == "comfy":
        naming = architecture.comfy_naming
    if naming == "flux":
        return tuple(native_modules(adapter.modules))
    if naming == "ldm":
        return tuple(_by_ldm(module, architecture) for module in adapter.modules)
    if naming == "clip":
        return tuple(_by_clip(module) for module in adapter.modules)
    return adapter.modules


def tensors_of(modules: Sequence[Module], architecture: Architecture, target: Target) -> Tensors:
    """Return what the file holds, in the order of the modules.

    kohya's names have underscores, so two modules may get one name: RefusedError.
    """
    prefix = getattr(architecture, target)
    result: Tensors = {}
    for module in modules:
        if target == "kohya":
            place = prefix + module.path.replace(".", "_")
            tensors = _kohya(place, module)
        elif target == "comfy":
            tensors = _comfy(prefix + module.path, module)
        else:
            tensors = _diffusers(f"{prefix}.{module.path}", module)
        if tensors.keys() & result.keys():
            raise RefusedError(f"module '{module.path}'", f"another is named so by {target} too")
        result |= {key: value.contiguous() for key, value in tensors.items()}
    return result


def _kohya(place: str, module: Module) -> Tensors:
    """Name as sd-scripts and LyCORIS do; the latter adds DoRA's magnitude, (out, 1)."""
    return {
        f"{place}.alpha": torch.tensor(module.alpha),
        f"{place}.lora_down.weight": module.down,
        f"{place}.lora_up.weight": module.up,
    } | _dora_scale(place, module)


def _comfy(place: str, module: Module) -> Tensors:
    """Name as ComfyUI's generic format does: the module's own name in its model."""
    return {
        f"{place}.alpha": torch.tensor(module.alpha),
        f"{place}.lora_A.weight": module.down,
        f"{place}.lora_B.weight": module.up,
    } | _dora_scale(place, module)


def _diffusers(place: str, module: Module) -> Tensors:
    """Name as diffusers' own `save_lora_weights` does; the scale is in the metadata."""
    tensors = {f"{place}.lora_A.weight": module.down, f"{place}.lora_B.weight": module.up}
    if module.magnitude is not None:
        tensors[f"{place}.lora_magnitude_vector"] = _magnitude(module, 1)
    return tensors


def _dora_scale(place: str, module: Module) -> Tensors:
    return {} if module.magnitude is None else {f"{place}.dora_scale": _magnitude(module, 0)}


def _magnitude(module: Module, axis: int) -> torch.Tensor:
    """Return DoRA's magnitudes with the axes of the weight, the rows on ``axis``.

    PEFT's own form is (out) for a linear module and (1, out, 1, 1) for a convolution, that of
    LyCORIS and ComfyUI (out, 1) and (out, 1, 1, 1).
    """
    assert module.magnitude is not None  # noqa: S101 - for the type checker
    if axis == 1 and module.down.ndim == 2:  # noqa: PLR2004 - axes
        return module.magnitude
    shape = [1] * module.down.ndim
    shape[axis] = -1
    return module.magnitude.reshape(shape)


def _by_clip(module: Module) -> Module:
    """Put `text_model.` before the name, which Transformers' CLIPTextModel lost with version 5."""
    path = f"text_model.{module.path.removeprefix('text_model.')}"
    return replace(module, path=path)


def _by_ldm(module: Module, architecture: Architecture) -> Module:
    name = ldm_name(module.path, plain_up_blocks=architecture.plain_up_blocks)
    if name is None:
        fact = f"is not one of {architecture.title}"
        raise RefusedError(f"module '{module.path}'", fact, "say what it was trained on with --as")
    return replace(module, path=name)
