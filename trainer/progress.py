# ruff: noqa: ARG002 - the signatures are Transformers'
"""What is seen of a training: tokens a second, time left, memory; as lines or as a bar."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import psutil
import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ProgressCallback

from .disk import size_words

_SHOWN = (("loss", "loss", ".4g"), ("eval_loss", "eval loss", ".4g"))
_MINUTE = 60


class Speed(TrainerCallback):
    """Count tokens, and add to each log what the rate of them says.

    `tokens` of this start, `tokens_per_s` since the log before, `eta_s` to the last step, and
    `memory_bytes`: the most that was in use on the GPU, or what this process holds on a CPU.
    Of ``processes`` that train together each is taken to have as many tokens as this one.
    It has to stand before the callbacks that write a log down.
    """

    def __init__(self, processes: int = 1) -> None:
        self.processes = processes
        self.tokens = 0
        self._before = 0
        self._began = self._last = time.monotonic()
        self._first_step = 0

    def count(self, inputs: Mapping[str, Any]) -> None:
        """Add the tokens of a batch, padding left out."""
        mask = inputs.get("attention_mask")
        own = int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
        self.tokens += own * self.processes

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self._began = self._last = time.monotonic()
        self._first_step = state.global_step

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Add the figures to a log of the loss."""
        if logs is None or "loss" not in logs:
            return
        now, done = time.monotonic(), state.global_step - self._first_step
        logs["tokens"] = self.tokens
        logs["tokens_per_s"] = round((self.tokens - self._before) / max(now - self._last, 1e-9), 1)
        if done:
            left = state.max_steps - state.global_step
            logs["eta_s"] = round((now - self._began) / done * left, 1)
        logs["memory_bytes"] = _memory_bytes()
        self._before, self._last = self.tokens, now


def _memory_bytes() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return int(psutil.Process().memory_info().rss)


class PlainLines(TrainerCallback):
    """Print one line a log, for files and pipes."""

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        """Print the line."""
        line = describe_log(state.global_step, state.max_steps, logs or {})
        if line and state.is_world_process_zero:
            print(line, flush=True)


class ProgressBar(ProgressCallback):
    """Transformers' bar on a terminal: the last log behind it, evaluations as lines above it."""

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        """Show the log."""
        if self.training_bar is None:
            return
        line = describe_log(state.global_step, state.max_steps, logs or {}, bar=True)
        if line and "eval_loss" in (logs or {}):
            self.training_bar.write(line)
        elif line:
            self.training_bar.set_postfix_str(line)


def describe_log(step: int, steps: int, logs: Mapping[str, Any], *, bar: bool = False) -> str:
    """Return a log as one line, empty for Transformers' closing summary.

    A bar shows steps and time left by itself.
    """
    if not {"loss", "eval_loss"} & logs.keys():
        return ""
    parts = [f"{name} {float(logs[key]):{form}}" for key, name, form in _SHOWN if key in logs]
    if "grad_norm" in logs:
        parts.append(f"grad norm {float(logs['grad_norm']):.4g}")
    if "learning_rate" in logs:
        parts.append(f"lr {float(logs['learning_rate']):.3g}")
    if "tokens_per_s" in logs:
        parts.append(f"{logs['tokens_per_s']:,.0f} tokens/s")
    if "eta_s" in logs and not bar:
        parts.append(f"{_clock(logs['eta_s'])} left")
    if "memory_bytes" in logs:
        parts.append(size_words(logs["memory_bytes"]))
    return "  ".join(parts if bar else [f"step {step}/{steps}", *parts])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
