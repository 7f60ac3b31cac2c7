"""Let GPTQModel quantise, pack and save a tiny model on a CPU in each of its formats.

    python gptqmodel_facts.py FACTS.json

Needs gptqmodel and its dependencies in an environment of their own (tested with 7.7.0).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Its pool of workers wants two, also on a machine with fewer cores to spare.
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "4")

from _model import facts_of, keep, tiny
from gptqmodel import GPTQModel
from gptqmodel.quantization import config as configs
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

FORMAT = configs.FORMAT
CASES: dict[str, tuple[str, dict[str, Any], bool]] = {
    # name: class of its configuration, options, whether it wants to see data
    "gptq-2": ("RTNConfig", {"bits": 2, "group_size": 64}, False),
    "gptq-3": ("RTNConfig", {"bits": 3, "group_size": 64}, False),
    "gptq-4": ("RTNConfig", {"bits": 4, "group_size": 64}, False),
    "gptq-8": ("RTNConfig", {"bits": 8, "group_size": 64}, False),
    "gptq-v2": ("RTNConfig", {"bits": 4, "group_size": 64, "format": FORMAT.GPTQ_V2}, False),
    "gptq-planar-3": ("RTNConfig", {"bits": 3, "group_size": 64, "format": FORMAT.GPTQ_P}, False),
    "gptq-dynamic": (
        "RTNConfig",
        {"bits": 4, "group_size": 64, "dynamic": {"+:.*self_attn.*": {"bits": 8}}},
        False,
    ),
    "gptq-act-order": ("GPTQConfig", {"bits": 4, "group_size": 64, "desc_act": True}, True),
    "awq-under-gptq": ("RTNConfig", {"bits": 4, "group_size": 64, "format": FORMAT.GEMM}, False),
    "awq": ("AWQConfig", {"bits": 4, "group_size": 64}, True),
    "qqq": ("QQQConfig", {"bits": 4, "group_size": 128}, True),
    "fp8": ("FP8Config", {}, False),
    "bitsandbytes-4": ("BitsAndBytesConfig", {"bits": 4}, False),
    "bitsandbytes-8": ("BitsAndBytesConfig", {"bits": 8}, False),
    "gguf-4": ("GGUFConfig", {"bits": 4}, False),
}


def main() -> None:
    """Write the facts of every format."""
    with tempfile.TemporaryDirectory() as place:
        plain = Path(place) / "plain"
        tiny().save_pretrained(plain)
        tokenizer().save_pretrained(plain)
        cases = dict(packed(plain, Path(place)))
    keep("gptqmodel", cases)


def packed(plain: Path, place: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each case with the facts of its files."""
    words = " ".join(f"w{number}" for number in range(1, 60))
    for name, (kind, options, wants_data) in CASES.items():
        model = GPTQModel.load(str(plain), getattr(configs, kind)(**options), device="cpu")
        data = [words] * 8 if wants_data else None
        model.quantize(calibration=data, batch_size=1, calibration_data_min_length=1)
        model.save(str(place / name))
        yield name, facts_of(place / name)


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words, which the library asks for."""
    vocabulary = {f"w{number}": number for number in range(126)} | {"<unk>": 126, "<pad>": 127}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", pad_token="<pad>", eos_token="<pad>"
    )


if __name__ == "__main__":
    main()
