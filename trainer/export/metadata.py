"""What the exported file says of itself: `ss_*`, `modelspec.*`, diffusers' adapter metadata.

Sources: sd-scripts' `train_network.py`, `library/train_util.py` and `library/sai_model_spec.py`,
the ModelSpec (github.com/Stability-AI/ModelSpec), diffusers' `loaders/lora_base.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save

from .. import __version__
from ..manifest import NAME as MANIFEST
from .adapter import Adapter, Module
from .architectures import Architecture

if TYPE_CHECKING:
    import torch

_LEGACY_FROM, _LEGACY_BYTES = 0x100000, 0x10000


def metadata_of(
    adapter: Adapter,
    architecture: Architecture,
    modules: Sequence[Module],
    tensors: Mapping[str, torch.Tensor],
    title: str,
) -> dict[str, str]:
    """Return the metadata of a file of ``tensors`` that kohya's tools and ComfyUI read."""
    told = _trained(adapter) | _network(adapter, architecture, modules)
    told |= {"ss_output_name": title, "ss_base_model_version": architecture.base_version}
    told = {key: value for key, value in told.items() if value}
    return told | _hashes(tensors, told) | _modelspec(adapter, architecture, tensors, title)


def diffusers_metadata(
    adapter: Adapter, architecture: Architecture, modules: Sequence[Module]
) -> dict[str, str]:
    """Return what diffusers makes its LoraConfig of, each module's rank and alpha exactly.

    Patterns match from the end of a name, and the first that does wins: the longest is first.
    """
    alpha_per_scale = [module.alpha for module in modules]
    rank = Counter(module.rank for module in modules).most_common(1)[0][0]
    alpha = Counter(alpha_per_scale).most_common(1)[0][0]
    longest = sorted(modules, key=lambda module: -len(module.path))
    config = {
        "r": rank,
        "lora_alpha": _plain(alpha),
        "rank_pattern": {each.path: each.rank for each in longest if each.rank != rank},
        "alpha_pattern": {each.path: _plain(each.alpha) for each in longest if each.alpha != alpha},
        "target_modules": [module.path for module in modules],
        "use_dora": adapter.is_dora,
        "use_rslora": False,
        "lora_bias": False,
    }
    told = {f"{architecture.diffusers}.{key}": value for key, value in config.items()}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(told, indent=2, sort_keys=False)}


def title_of(directory: Path) -> str:
    """Return a run's name and its step, or what else the checkpoint's directory is called."""
    path = directory.resolve()
    return f"{path.parent.name}-{path.name.removeprefix('checkpoint-')}".strip("-")


def _network(
    adapter: Adapter, architecture: Architecture, modules: Sequence[Module]
) -> dict[str, str]:
    """Return the network's form; sd-scripts itself reads no DoRA, LyCORIS does."""
    ranks = {module.rank for module in modules}
    alphas = {module.alpha for module in modules}
    # sd-scripts writes Dynamic where modules differ (networks/resize_lora.py).
    told = {
        "ss_network_module": "lycoris.kohya" if adapter.is_dora else architecture.kohya_module,
        "ss_network_dim": str(ranks.pop()) if len(ranks) == 1 else "Dynamic",
        "ss_network_alpha": str(alphas.pop()) if len(alphas) == 1 else "Dynamic",
    }
    arguments = {"algo": "lora", "dora_wd": "True"} if adapter.is_dora else {}
    dropout = adapter.config.get("lora_dropout")
    if dropout:
        told["ss_network_dropout"] = str(dropout)
    return told | ({"ss_network_args": json.dumps(arguments)} if arguments else {})


def _trained(adapter: Adapter) -> dict[str, str]:
    """Return how it was trained, as far as the manifest or the trainer's state tells."""
    manifest = _json(adapter.path / MANIFEST)
    state = _json(adapter.path / "trainer_state.json")
    recipe = manifest.get("recipe") or {}
    training = recipe.get("training") or {}
    optimizer = manifest.get("optimizer") or {}
    arguments = ",".join(f"{key}={value}" for key, value in (optimizer.get("args") or {}).items())
    base = adapter.config.get("base_model_name_or_path") or ""
    written = (adapter.path / "adapter_model.safetensors").stat().st_mtime
    told = {
        "ss_sd_model_name": Path(base).name,
        "ss_steps": manifest.get("step", state.get("global_step")),
        "ss_epoch": manifest.get("epoch", state.get("epoch")),
        "ss_max_train_steps": training.get("steps", state.get("max_steps")),
        "ss_learning_rate": optimizer.get("learning_rate"),
        "ss_optimizer": f"{optimizer['name']}({arguments})" if "name" in optimizer else None,
        "ss_lr_scheduler": training.get("scheduler"),
        "ss_lr_warmup_steps": training.get("warmup_steps"),
        "ss_max_grad_norm": training.get("max_grad_norm"),
        "ss_batch_size_per_device": training.get("batch_size", state.get("train_batch_size")),
        "ss_gradient_accumulation_steps": training.get("gradient_accumulation"),
        "ss_gradient_checkpointing": training.get("gradient_checkpointing"),
        "ss_seed": training.get("seed"),
        "ss_training_finished_at": written,
    }
    return {key: str(value) for key, value in told.items() if value not in (None, "")}


def _modelspec(
    adapter: Adapter,
    architecture: Architecture,
    tensors: Mapping[str, torch.Tensor],
    title: str,
) -> dict[str, str]:
    """Return the ModelSpec's keys, version 1.0.1; its hash is of the tensors' bytes."""
    spec = architecture.spec
    base = adapter.config.get("base_model_name_or_path") or ""
    if spec == "language-model":
        spec = str(_json(Path(base) / "config.json").get("model_type") or spec)
    written = (adapter.path / "adapter_model.safetensors").stat().st_mtime
    told = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{spec}/lora",
        "implementation": architecture.implementation,
        "title": title,
        "date": datetime.fromtimestamp(written, UTC).isoformat(timespec="seconds"),
        "description": f"exported by sentinel-train {__version__}",
        "hash_sha256": f"0x{_digest(save(dict(tensors)))}",
    }
    if architecture.pixels:
        told["resolution"] = f"{architecture.pixels}x{architecture.pixels}"
    return {f"modelspec.{key}": value for key, value in told.items()}


def _hashes(tensors: Mapping[str, torch.Tensor], told: dict[str, str]) -> dict[str, str]:
    """Return the two hashes by which the web UIs know a network."""
    data = save(dict(tensors), told)
    window = data[_LEGACY_FROM : _LEGACY_FROM + _LEGACY_BYTES]
    return {
        "sshs_model_hash": _digest(data),
        "sshs_legacy_hash": hashlib.sha256(window).hexdigest()[:8],
    }


def _digest(data: bytes) -> str:
    """Return the digest of a safetensors file's values, whatever its header says."""
    start = 8 + int.from_bytes(data[:8], "little")
    return hashlib.sha256(memoryview(data)[start:]).hexdigest()


def _plain(value: float) -> float:
    """Return a whole number as such: PEFT calls lora_alpha an integer."""
    return int(value) if value == int(value) else value


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON object, empty for a file that is none: metadata is no reason to stop."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
