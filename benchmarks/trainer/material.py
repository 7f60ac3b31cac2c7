"""What both trainers get: a Llama from a config with random weights, and rows of equal length.

    python benchmarks/trainer/material.py DIR --size toy --block 256 --rows 64

`DIR/base` is the model in bf16 or fp32 with a tokenizer of bytes, `DIR/rows.jsonl` the text,
`DIR/machine.json` what torch says of the machine.
"""

from __future__ import annotations

import argparse
import json
import random
import string
from pathlib import Path

import torch
from sentinel_trainer.tiny_base import byte_tokenizer
from sizes import SIZES
from transformers import LlamaConfig, LlamaForCausalLM, set_seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", choices=SIZES, required=True)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), required=True)
    parser.add_argument("--block", type=int, required=True)
    parser.add_argument("--rows", type=int, required=True)
    options = parser.parse_args()
    _write_base(options.out / "base", options.size, options.dtype, options.block)
    _write_rows(options.out / "rows.jsonl", options.block, options.rows)
    _write_machine(options.out / "machine.json")


def _write_base(out: Path, size: str, dtype: str, block: int) -> None:
    set_seed(0)
    tokenizer = byte_tokenizer()
    tokenizer.model_max_length = block
    config = LlamaConfig(
        **SIZES[size],
        max_position_embeddings=max(2048, block),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(out)
    tokenizer.save_pretrained(out)


def _write_rows(path: Path, block: int, rows: int) -> None:
    """Write more bytes a record than a row takes, so that each trainer cuts full rows."""
    chance = random.Random(0)
    letters = string.ascii_lowercase + " "
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            text = "".join(chance.choices(letters, k=block + 16))
            file.write(json.dumps({"text": text}) + "\n")


def _write_machine(path: Path) -> None:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    path.write_text(json.dumps({"gpu": gpu}), encoding="utf-8")


if __name__ == "__main__":
    main()
