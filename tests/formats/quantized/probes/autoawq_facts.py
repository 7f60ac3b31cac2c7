"""Let AutoAWQ pack the linear layers of a tiny model in each of its versions.

    python autoawq_facts.py FACTS.json

Needs autoawq and its dependencies in an environment of their own (tested with 0.2.9, the last).
Scales and zeros are the plain ones of each group; the packing is the library's `from_linear`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from _model import facts_of, keep, tiny
from awq.models._config import AwqConfig
from awq.modules.linear import gemm, gemv, gemv_fast
from safetensors.torch import save_file

GROUP, BITS = 64, 4
VERSIONS = {
    "gemm": gemm.WQLinear_GEMM,
    "gemv": gemv.WQLinear_GEMV,
    "gemv_fast": gemv_fast.WQLinear_GEMVFast,
}


def main() -> None:
    """Write the facts of every version."""
    cases = {}
    for version, kind in VERSIONS.items():
        with tempfile.TemporaryDirectory() as place:
            write(Path(place), version, kind)
            cases[version] = facts_of(Path(place))
    keep("autoawq", cases)


def write(path: Path, version: str, kind: Any) -> None:
    """Save the tiny model with all but the head packed."""
    model = tiny().half()
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, packed(module, version, kind))
    settings = AwqConfig(q_group_size=GROUP, w_bit=BITS, version=version).to_transformers_dict()
    config = model.config.to_dict() | {"quantization_config": settings, "dtype": "float16"}
    (path / "config.json").write_text(json.dumps(config, default=str))
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, path / "model.safetensors")


def packed(linear: Any, version: str, kind: Any) -> Any:
    """Pack one layer by the range of each of its groups."""
    rows, _ = linear.weight.shape
    groups = linear.weight.data.float().reshape(-1, GROUP)
    low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
    scales = (high - low).clamp(min=1e-5) / (2**BITS - 1)
    zeros = (-torch.round(low / scales)).clamp(0, 2**BITS - 1)
    scales, zeros = scales.view(rows, -1).half(), zeros.view(rows, -1).half()
    if version == "gemm":
        scales, zeros = scales.t().contiguous(), zeros.t().contiguous()
    return kind.from_linear(linear, BITS, GROUP, False, scales, zeros)  # noqa: FBT003 - its order


if __name__ == "__main__":
    main()
