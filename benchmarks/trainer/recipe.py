"""The one training of this benchmark, as sentinel-train's recipe says it.

`with_trl.py` says the same to TRL from the same mapping.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def recipe(options: argparse.Namespace, material: Path, *, save_every: int) -> dict[str, Any]:
    """Return the recipe but for its `output_dir`."""
    compute = "bf16" if options.dtype == "bfloat16" else "fp32"
    return {
        "base": {
            "model": str(material / "base"),
            "quantization": options.quantization,
            "compute_dtype": compute,
        },
        "adapter": {"rank": 16, "alpha": 32, "target_modules": "all-linear", "dtype": "fp32"},
        "data": {
            "files": [str(material / "rows.jsonl")],
            "format": "jsonl",
            "packing": "none",
            "block_size": options.block,
        },
        "training": {
            "steps": options.steps,
            "batch_size": options.batch,
            "gradient_checkpointing": options.checkpointing,
            "learning_rate": 1e-4,
            "optimizer": {"name": "adamw-fused", "args": {"weight_decay": 0.0}},
            "save_every": save_every,
            "log_every": 1,
            "threads": options.threads,
            "tensorboard": False,
        },
    }
