"""LoRA adapters as files, with values that no rule objects to."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

CONFIG = {
    "peft_type": "LORA",
    "r": 16,
    "lora_alpha": 16,
    "target_modules": ["q_proj", "v_proj"],
    "task_type": "CAUSAL_LM",
}

_MOST_VALUES = 2**26
"""So many are made; a larger adapter repeats them."""


class Adapter:
    """A LoRA of ``size_bytes`` in bf16, made once; each copy differs in its values a little."""

    def __init__(self, size_bytes: int, modules: int = 250) -> None:
        rows = max(16, size_bytes // (modules * 2 * 16 * 2))
        self._shapes: dict[str, tuple[int, int]] = {}
        for number in range(modules):
            place = f"layers.{number // 2}.self_attn.{'qv'[number % 2]}_proj"
            module = f"base_model.model.model.{place}"
            self._shapes[f"{module}.lora_A.weight"] = (16, rows)
            self._shapes[f"{module}.lora_B.weight"] = (rows, 16)
        self._total = 2 * modules * 16 * rows
        size = min(self._total, _MOST_VALUES)
        values = np.random.default_rng(0).normal(scale=0.02, size=size).astype(np.float32)
        self._bits = (values.view(np.uint32) >> 16).astype(np.uint16)
        self._head = self._header()
        self.size_bytes = len(self._head) + 2 * self._total

    def write_file(self, path: Path) -> int:
        """Write the next copy as one file; return the time in ns at which it was closed."""
        self._bits[:: len(self._bits) // 1000] ^= np.uint16(1)
        with path.open("wb") as file:
            file.write(self._head)
            for start in range(0, self._total, len(self._bits)):
                file.write(self._bits[: self._total - start].data)
        return time.time_ns()

    def write_checkpoint(self, directory: Path, step: int) -> int:
        """Write the next copy as Transformers' Trainer saves it, its mark last."""
        directory.mkdir(parents=True)
        (directory / "adapter_config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
        self.write_file(directory / "adapter_model.safetensors")
        state = {"global_step": step, "epoch": 0.1, "max_steps": 10**6, "log_history": []}
        (directory / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
        return time.time_ns()

    def _header(self) -> bytes:
        head, at = {}, 0
        for name, shape in self._shapes.items():
            end = at + 2 * shape[0] * shape[1]
            head[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, end]}
            at = end
        text = json.dumps(head).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text
