"""The files that are measured: random weights, one file a dtype, and small LoRAs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

MIB = 1024 * 1024
TENSORS = 16


def values_of(name: str, size_bytes: int) -> np.ndarray:
    """Normal values of deviation 0.02 in the dtype's own bits; bfloat16 as its 16-bit patterns."""
    width = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}[name]
    drawn = np.random.default_rng(0).standard_normal(size_bytes // width, dtype=np.float32) * 0.02
    if name == "bfloat16":  # the upper half of a float32's bits
        return (drawn.view(np.uint32) >> 16).astype(np.uint16)
    return drawn.astype(name)


def write_weights(path: Path, name: str, mib: int) -> None:
    """Write a file of ``mib`` MiB, in tensors of one size."""
    part = values_of(name, mib * MIB // TENSORS)
    # Something to cut from the header, where a longer name of a dtype needs the room.
    room = {"room": " " * 4 * TENSORS}
    save_file({f"weight.{index}": part for index in range(TENSORS)}, path, metadata=room)
    if name == "bfloat16":
        _call_it_bf16(path)


def _call_it_bf16(path: Path) -> None:
    """Write the dtype that NumPy has not into the header; the name is longer, a space shorter."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        del header["__metadata__"]
        for entry in header.values():
            entry["dtype"] = "BF16"
        text = json.dumps(header, separators=(",", ":")).encode()
        if len(text) > length:
            raise ValueError(len(text), length)
        file.seek(8)
        file.write(text.ljust(length))


def write_lora(path: Path, *, modules: int, rank: int, width: int, seed: int = 0) -> None:
    """Write a LoRA in kohya's layout, of `modules` pairs."""
    generator = np.random.default_rng(seed)
    tensors = {}
    for index in range(modules):
        name = f"lora_unet_down_blocks_{index}_attn"
        shapes = {"lora_down.weight": (rank, width), "lora_up.weight": (width, rank)}
        for part, shape in shapes.items():
            drawn = generator.standard_normal(shape, dtype=np.float32)
            tensors[f"{name}.{part}"] = drawn * np.float32(0.02)
        tensors[f"{name}.alpha"] = np.array(rank, np.float32)
    facts = {"ss_steps": "100", "ss_network_dim": str(rank), "ss_network_alpha": str(rank)}
    save_file(tensors, path, metadata=facts)
