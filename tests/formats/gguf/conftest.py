"""Writing GGUF files with the gguf package, adapters and models the way llama.cpp converts them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Arrays = Mapping[str, np.ndarray]


class GgufWriting:
    """The package and what llama.cpp's converters do with it; all files below one directory."""

    def __init__(self, package: Any, root: Path) -> None:
        self.gguf = package
        self.root = root

    def lora(
        self,
        name: str,
        pairs: Mapping[str, tuple[np.ndarray, np.ndarray]],
        *,
        alpha: float = 16.0,
        whole: Arrays | None = None,
        kind: str = "F32",
    ) -> Path:
        """Write what convert_lora_to_gguf.py does: ``pairs`` holds A and B by tensor."""
        writer = self.gguf.GGUFWriter(self.root / name, "llama")
        writer.add_type(self.gguf.GGUFType.ADAPTER)
        writer.add_string(self.gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(self.gguf.Keys.Adapter.LORA_ALPHA, alpha)
        writer.add_string("general.base_model.0.name", "Tiny")
        for tensor, (lora_a, lora_b) in pairs.items():
            turned = lora_a.T if "token_embd.weight" in tensor else lora_a
            self.add(writer, f"{tensor}.lora_a", np.ascontiguousarray(turned), kind)
            self.add(writer, f"{tensor}.lora_b", lora_b, kind)
        for tensor, values in (whole or {}).items():
            self.add(writer, tensor, values, "F32")
        return self.finish(writer)

    def model(self, name: str, tensors: Arrays, *, kind: str = "F32", split: int = 0) -> Path:
        """Write a model, its matrices quantised; return its file or the first of its parts."""
        writer = self.gguf.GGUFWriter(self.root / name, "llama", split_max_tensors=split)
        writer.add_name("Tiny")
        writer.add_array("tokenizer.ggml.tokens", [f"t{number}" for number in range(40)])
        for tensor, values in tensors.items():
            self.add(writer, tensor, values, kind)
        return self.finish(writer)

    def add(self, writer: Any, name: str, values: np.ndarray, kind: str) -> None:
        """Add a tensor quantised as asked, with rows that are no whole blocks as F16."""
        number = self.gguf.GGMLQuantizationType[kind]
        if values.ndim == 1:
            number = self.gguf.GGMLQuantizationType.F32
        elif values.shape[-1] % self.gguf.GGML_QUANT_SIZES[number][0]:
            number = self.gguf.GGMLQuantizationType.F16
        packed = self.gguf.quants.quantize(values.astype("f4"), number)
        writer.add_tensor(name, packed, raw_dtype=number)

    def finish(self, writer: Any) -> Path:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        path: Path = writer.format_shard_names(writer.path)[0]
        return path

    def renamed(self, keys: Mapping[str, Any], layers: int) -> dict[str, Any]:
        """Return the same under llama.cpp's names."""
        names = self.gguf.get_tensor_name_map(self.gguf.MODEL_ARCH.LLAMA, layers)
        return {names.get_name(key, try_suffixes=(".weight",)): keys[key] for key in keys}


@pytest.fixture
def writing(tmp_path: Path) -> GgufWriting:
    return GgufWriting(pytest.importorskip("gguf"), tmp_path)


def weights(seed: int = 0, layers: int = 2, width: int = 64) -> dict[str, np.ndarray]:
    """A model of two layers under llama.cpp's names."""
    random = np.random.default_rng(seed)
    found = {"token_embd.weight": random.standard_normal((40, width))}
    for layer in range(layers):
        found[f"blk.{layer}.attn_norm.weight"] = np.ones(width)
        found[f"blk.{layer}.attn_q.weight"] = random.standard_normal((width, width))
        found[f"blk.{layer}.attn_v.weight"] = random.standard_normal((width // 2, width))
        found[f"blk.{layer}.ffn_down.weight"] = random.standard_normal((width, 2 * width))
    found["output_norm.weight"] = np.ones(width)
    return found


@pytest.fixture(name="weights")
def weights_fixture() -> dict[str, np.ndarray]:
    return weights()
