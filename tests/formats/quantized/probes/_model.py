"""The tiny model that a probe lets a library pack, and the facts it keeps of what was written."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open

_SMALL_BYTES = 1024
_DROPPED = frozenset({"meta", "producer"})
"""What a description says about its writer and not about the packing."""


def tiny() -> Any:
    """Return a model of one layer whose linear layers all differ in what would show a mistake."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=256,
        intermediate_size=384,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=128,
        max_position_embeddings=64,
        architectures=["LlamaForCausalLM"],
    )
    return transformers.LlamaForCausalLM(config).to(torch.bfloat16)


def plain_shapes() -> dict[str, str]:
    """Return the shape of every weight before it is packed, by module."""
    return {
        name.removesuffix(".weight"): " ".join(map(str, value.shape))
        for name, value in tiny().state_dict().items()
        if name.endswith(".weight")
    }


def facts_of(path: Path) -> dict[str, Any]:
    """Return what a directory's headers and descriptions say: no value of a weight."""
    tensors, texts = dict[str, str](), dict[str, str]()
    for file in sorted(path.glob("*.safetensors")):
        header = _header(file)
        with safe_open(file, "pt") as opened:
            for key, entry in header.items():
                tensors[key] = " ".join(map(str, (entry["dtype"], *entry["shape"])))
                begin, end = entry["data_offsets"]
                is_text = key.endswith(("quant_state", "weight_shape")) or "__" in key
                if is_text and end - begin <= _SMALL_BYTES:
                    raw = opened.get_tensor(key).contiguous().view(torch.uint8)
                    texts[key] = bytes(raw.flatten().tolist()).hex()
    config = json.loads((path / "config.json").read_text())
    beside = path / "hf_quant_config.json"
    return {
        "config": {
            key: _without(config[key]) for key in ("dtype", "quantization_config") if key in config
        },
        "files": {beside.name: _without(json.loads(beside.read_text()))} if beside.exists() else {},
        "tensors": tensors,
        "texts": texts,
    }


def keep(package: str, cases: Mapping[str, Any]) -> None:
    """Write the facts where the first argument says."""
    facts = {
        "writer": f"{package} {version(package)}",
        "with": [f"{name} {version(name)}" for name in ("torch", "transformers")],
        "plain": plain_shapes(),
        "cases": cases,
    }
    text = json.dumps(facts, indent=1, sort_keys=True)
    Path(sys.argv[1]).write_text(text + "\n", encoding="utf-8")


def _header(file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    header.pop("__metadata__", None)
    return header


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner) for key, inner in value.items() if key not in _DROPPED}
    return value
