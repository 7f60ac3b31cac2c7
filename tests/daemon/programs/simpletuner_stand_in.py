"""What SimpleTuner does with `train --env NAME` on a base packed by an old optimum-quanto.

A resume raises KeyError for a key of the base, which no adapter holds; beginning from an adapter's
weights works (https://github.com/bghira/SimpleTuner/issues/659).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

MODULES = ("transformer.blocks.0.attn.to_q", "transformer.blocks.0.attn.to_v")


def main() -> None:
    named = sys.argv[sys.argv.index("--env") + 1]
    place = next(place for place in (Path(named), Path("config", named)) if place.is_dir())
    config = json.loads((place / "config.json").read_text())
    out = Path(config["--output_dir"])
    held = list(out.glob("checkpoint-*"))
    if config.get("--resume_from_checkpoint") and held:
        raise KeyError("transformer.blocks.0.attn.to_q.weight._data")
    ups = {module: np.zeros((16, 4), np.float32) for module in MODULES}
    if config.get("--init_lora"):
        with safe_open(config["--init_lora"], "numpy") as file:
            ups = {module: file.get_tensor(f"{module}.lora_B.weight") for module in MODULES}
    for step in (10, 20):
        save(out / f"checkpoint-{step}", {module: up + step / 1000 for module, up in ups.items()})


def save(place: Path, ups: dict[str, np.ndarray]) -> None:
    place.mkdir(parents=True)
    tensors = {f"{module}.lora_B.weight": up.astype(np.float32) for module, up in ups.items()}
    down = np.random.default_rng(0).uniform(-0.2, 0.2, (4, 16)).astype(np.float32)
    tensors |= {f"{module}.lora_A.weight": down for module in MODULES}
    save_file(tensors, place / "pytorch_lora_weights.safetensors")
    (place / "training_state.json").write_text(json.dumps({"global_step": int(place.name[11:])}))
    (place / ".guard").write_text("complete\n")  # SimpleTuner's own mark, written last


if __name__ == "__main__":
    main()
