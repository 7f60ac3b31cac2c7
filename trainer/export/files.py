"""One file of tensors and metadata, for everything but a merged model."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from ..errors import RefusedError
from .adapter import read_adapter
from .architectures import ARCHITECTURES, architecture_of
from .metadata import diffusers_metadata, metadata_of, title_of
from .naming import Target, renamed, tensors_of
from .precision import Precision, cast, rounded_to_zero
from .writing import refuse_taken, replaced

_ALPHA = ".alpha"


def export_file(
    checkpoint: Path,
    target: Target,
    told: str | None,
    output: Path | None,
    dtype: Precision | None,
    *,
    force: bool,
) -> list[str]:
    """Write the file and return what is to be said of it; raises RefusedError before writing."""
    if told is not None and told not in ARCHITECTURES:
        raise RefusedError(f"--as {told}", "is not known", f"use {', '.join(ARCHITECTURES)}")
    title = title_of(checkpoint)
    place = output or Path(f"{title}-{target}.safetensors")
    refuse_taken(place, force=force, directory=False)

    adapter = read_adapter(checkpoint)
    name, architecture = architecture_of(adapter, told)
    modules = renamed(adapter, architecture, target)
    before = tensors_of(modules, architecture, target)
    tensors, lines = before, []
    if dtype:
        values = {key: value for key, value in before.items() if not key.endswith(_ALPHA)}
        changed = cast(f"checkpoint '{checkpoint}'", values, dtype)
        if lost := rounded_to_zero(values, changed):
            lines.append(f"{dtype} rounds {lost:.2%} of the values that are not zero to zero")
        tensors = before | changed
    if target == "diffusers":
        metadata = diffusers_metadata(adapter, architecture, modules)
    else:
        metadata = metadata_of(adapter, architecture, modules, tensors, title)
    with replaced(place) as path:
        save_file(tensors, path, metadata)
    ranks = sorted({module.rank for module in modules})
    alphas = sorted({module.alpha for module in modules})
    lines.append(
        f"wrote '{place}': {len(modules)} modules of {architecture.title} (--as {name}), "
        f"rank {_range(ranks)}, alpha {_range(alphas)}, {_dtypes(tensors)}"
    )
    return lines


def _range(values: list[float] | list[int]) -> str:
    first = f"{values[0]:g}"
    return first if len(values) == 1 else f"{first} to {values[-1]:g}"


def _dtypes(tensors: dict[str, object]) -> str:
    found = {
        str(value.dtype).removeprefix("torch.")  # type: ignore[attr-defined]
        for key, value in tensors.items()
        if not key.endswith(_ALPHA)
    }
    return ", ".join(sorted(found))
