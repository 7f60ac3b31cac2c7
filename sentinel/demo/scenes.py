"""The scenes of the demo: which recipe each trains, and nothing about how it will end."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from sentinel.errors import TrainerError


@dataclass(frozen=True, slots=True)
class Scene:
    """One training run of the demo; ``steps`` is what its recipe trains without interruption."""

    name: str
    title: str
    recipe: Path
    output: Path
    command: tuple[str, ...]
    steps: int


_HEALTHY = ("--set", "adapter.dtype=fp32")


def base_command(base: Path) -> tuple[str, ...]:
    """Return the command that pre-trains the tiny base model."""
    return (sys.executable, "-m", "sentinel_trainer.tiny_base", str(base))


def scenes(workspace: Path, *, healthy: bool) -> tuple[Scene, ...]:
    """Return the demo's scenes; ``healthy`` trains the same recipes in fp32 adapter weights."""
    base = workspace / "base"
    return tuple(
        _scene(name, recipe, title, base, workspace, healthy=healthy)
        for name, recipe, title in (
            ("demo-zero", "zero-prodigy", "Scene 1: fp16 adapter on an NF4 base, Prodigy"),
            ("demo-nan", "nan-warmup", "Scene 2: fp16 adapter, fused AdamW"),
        )
    )


def recipe_directory() -> Path:
    """Return where the bundled trainer keeps its recipes of failures.

    Raises TrainerError when the trainer's libraries are not installed.
    """
    spec = importlib.util.find_spec("sentinel_trainer")
    missing = [
        name
        for name in ("torch", "transformers", "peft", "bitsandbytes")
        if importlib.util.find_spec(name) is None
    ]
    if spec is None or spec.origin is None or missing:
        raise TrainerError(
            "demo",
            fact=f"needs the bundled trainer's libraries ({', '.join(missing) or 'the wheel'})",
            todo="pip install 'checkpoint-sentinel[trainer]'",
        )
    return Path(spec.origin).parent / "recipes" / "failures"


def _scene(
    name: str, file: str, title: str, base: Path, workspace: Path, *, healthy: bool
) -> Scene:
    import yaml  # noqa: PLC0415 - only when the demo runs

    recipe = recipe_directory() / f"{file}.yaml"
    output = workspace / name
    command = (
        *(sys.executable, "-m", "sentinel_trainer.main", str(recipe)),
        *("--set", f"base.model={base}", "--set", f"output_dir={output}"),
        *(_HEALTHY if healthy else ()),
    )
    settings = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    return Scene(name, title, recipe, output, command, int(settings["training"]["steps"]))
