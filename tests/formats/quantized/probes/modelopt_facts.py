"""Let NVIDIA's Model Optimizer quantise a tiny model on a CPU and export it.

    python modelopt_facts.py FACTS.json

Needs nvidia-modelopt and its dependencies in an environment of their own (tested with 0.47.0).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import modelopt.torch.quantization as mtq
import torch
from _model import facts_of, keep, tiny
from modelopt.torch.export import export_hf_checkpoint

CASES = (
    "NVFP4_DEFAULT_CFG",
    "FP8_DEFAULT_CFG",
    "FP8_2D_BLOCKWISE_WEIGHT_ONLY_CFG",
    "INT8_DEFAULT_CFG",
    "INT4_AWQ_CFG",
    "INT4_BLOCKWISE_WEIGHT_ONLY_CFG",
    "W4A8_AWQ_BETA_CFG",
    "MXFP4_DEFAULT_CFG",
)


def main() -> None:
    """Write the facts of every configuration that runs on a CPU."""
    cases = {}
    for name in CASES:
        with tempfile.TemporaryDirectory() as place:
            model = mtq.quantize(tiny(), getattr(mtq, name), calibrate)
            with torch.inference_mode():
                export_hf_checkpoint(model, export_dir=place)
            cases[name] = facts_of(Path(place))
    keep("nvidia-modelopt", cases)


def calibrate(model: Any) -> None:
    """Show the model a few tokens."""
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        model(torch.randint(0, 128, (1, 8), generator=generator))


if __name__ == "__main__":
    main()
