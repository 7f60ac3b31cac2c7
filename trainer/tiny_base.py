"""A tiny Llama, pre-trained in seconds: a real base model where none can be downloaded.

`python -m sentinel_trainer.tiny_base OUT [--steps N]` writes a directory that
`AutoModelForCausalLM` and `AutoTokenizer` open. The text is the standard library of the
running interpreter; the tokenizer has one token a byte.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import quiet
from .data.collate import Collator
from .data.encode import encode
from .data.files import STDLIB_PREFIX, find_files
from .data.records import read_records
from .data.samples import language_samples
from .sections.data import Data

TEXT = f"{STDLIB_PREFIX}[a-f]*.py"


def build(
    out: Path,
    *,
    steps: int = 150,
    seed: int = 0,
    text: str = TEXT,
    threads: int = 1,
    layers: int = 4,
    hidden: int = 128,
) -> None:
    """Build the model, pre-train it for ``steps`` steps (0: random weights) and save it.

    ``layers`` and ``hidden`` (a multiple of 8) are its size; its heads are four.

    One thread is the default: matrices this small gain little from a second one, and on a busy
    machine threads that wait for each other cost many times the work.
    """
    quiet.before_imports()
    import torch  # noqa: PLC0415
    from transformers import (  # noqa: PLC0415
        LlamaConfig,
        LlamaForCausalLM,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    quiet.after_imports()
    torch.set_num_threads(threads)
    set_seed(seed)
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    if steps:
        data = Data(files=(text,), block_size=128)
        records = read_records(find_files(data), (), "", data)
        with tempfile.TemporaryDirectory() as scratch:
            trainer = Trainer(
                model=model,
                args=TrainingArguments(
                    output_dir=scratch,
                    max_steps=steps,
                    per_device_train_batch_size=8,
                    learning_rate=3e-3,
                    lr_scheduler_type="cosine",
                    warmup_steps=10,
                    logging_steps=max(1, steps // 5),
                    save_strategy="no",
                    report_to="none",
                    log_level="error",
                    disable_tqdm=not sys.stderr.isatty(),
                    use_cpu=not torch.cuda.is_available(),
                    dataloader_pin_memory=torch.cuda.is_available(),
                    seed=seed,
                ),
                train_dataset=language_samples(
                    (encode(record, place, data, tokenizer) for place, record in records), data
                ),
                data_collator=Collator(tokenizer.pad_token_id),
            )
            trainer.train()
    model.to("cpu").save_pretrained(out)
    tokenizer.save_pretrained(out)


def byte_tokenizer() -> Any:
    """Return a tokenizer whose tokens are the 256 bytes and three marks."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    marks = ("<pad>", "<s>", "</s>")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate((*marks, *letters))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=marks[0],
        bos_token=marks[1],
        eos_token=marks[2],
        model_max_length=512,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Build a tiny base where the command line says."""
    parser = argparse.ArgumentParser(prog="sentinel_trainer.tiny_base", description="tiny Llama")
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=128)
    options = vars(parser.parse_args(argv))
    build(options.pop("out"), **options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
