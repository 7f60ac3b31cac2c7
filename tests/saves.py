"""Checkpoints as trainers write them, small enough to write hundreds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save


class Saves:
    """Checkpoints as trainers write them, small enough to write hundreds."""

    @staticmethod
    def single(
        step: int | None,
        *,
        zero: bool = False,
        nan: bool = False,
        like: int | None = None,
        side: int = 16,
        keys: tuple[str, str] = ("lora_unet_a.lora_down.weight", "lora_unet_a.lora_up.weight"),
    ) -> bytes:
        """The bytes of one file as sd-scripts writes it, with the values of step ``like``."""
        moved = (step if like is None else like) or 0
        generator = np.random.default_rng(0)
        up = generator.standard_normal((side, 4)) * 0.01 + moved * 1e-6
        up = (up * (not zero)).astype(np.float32)
        up[0, 0] = np.nan if nan else up[0, 0]
        down = generator.uniform(-0.2, 0.2, (4, side)).astype(np.float32)
        tensors = dict(zip(keys, (down, up), strict=True))
        tensors[f"{keys[0].partition('.lora_')[0]}.alpha"] = np.array(4, np.float32)
        metadata = {"ss_network_module": "networks.lora", "ss_lr_warmup_steps": "0"}
        return save(tensors, metadata if step is None else metadata | {"ss_steps": str(step)})

    @classmethod
    def file(cls, path: Path, step: int | None = None, **how: int) -> Path:
        """Write one such file under another name and rename it, as careful trainers do."""
        path.parent.mkdir(parents=True, exist_ok=True)
        being_written = path.with_name(f"{path.name}.tmp")
        being_written.write_bytes(cls.single(step, **how))
        return being_written.rename(path)

    @classmethod
    def folder(
        cls, path: Path, step: int, *, resumed_from: Path | None = None, **how: bool
    ) -> Path:
        """Write one of the bundled trainer's directories and rename it into its place."""
        being_written = path.with_name(f".tmp-{path.name}")
        being_written.mkdir(parents=True)
        keys = ("base_model.model.a.lora_A.weight", "base_model.model.a.lora_B.weight")
        weights = cls.single(step, keys=keys, **how)
        (being_written / "adapter_model.safetensors").write_bytes(weights)
        (being_written / "adapter_config.json").write_text(
            json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 4})
        )
        manifest = {
            "schema": 1,
            "step": step,
            "updates_done": step,
            "resumed_from": None if resumed_from is None else {"path": str(resumed_from)},
            "files": {"adapter_model.safetensors": {"size_bytes": len(weights)}},
        }
        (being_written / "sentinel_manifest.json").write_text(json.dumps(manifest))
        return being_written.rename(path)
