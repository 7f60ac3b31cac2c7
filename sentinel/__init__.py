"""Checkpoint diagnostics and repair for LoRA and DoRA fine-tuning."""

from __future__ import annotations

__version__ = "0.1.0"
