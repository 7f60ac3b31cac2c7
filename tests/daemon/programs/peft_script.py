"""A LoRA training as people write it, by Transformers and PEFT, small enough for any machine.

It takes its base from `--model_name_or_path`, else makes one of random numbers.
What is loaded in `--dtype float16` is trained in it, as PEFT did before 0.12 and does today where
`autocast_adapter_dtype` is off: Adam's second moment rounds to zero and the update becomes NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import Dataset
from transformers import (
    AutoModelForCausalLM,
    HfArgumentParser,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
)

WORDS = 64


@dataclass
class ModelArguments:
    model_name_or_path: str | None = None
    dtype: str = "float32"


class Counting(Dataset):
    """Numbers in their order, from anywhere."""

    def __len__(self) -> int:
        return 256

    def __getitem__(self, at: int) -> dict[str, torch.Tensor]:
        tokens = (torch.arange(16) + at) % WORDS
        return {"input_ids": tokens, "labels": tokens}


def tiny() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=WORDS,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
    )


def main() -> None:
    parser = HfArgumentParser((ModelArguments, TrainingArguments))
    model_args, args = parser.parse_args_into_dataclasses()
    torch.manual_seed(0)
    dtype = getattr(torch, model_args.dtype)
    if model_args.model_name_or_path:
        base = AutoModelForCausalLM.from_pretrained(model_args.model_name_or_path, dtype=dtype)
    else:
        base = LlamaForCausalLM(tiny()).to(dtype)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(base, lora, autocast_adapter_dtype=False)
    trainer = Trainer(model=model, args=args, train_dataset=Counting())
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)


if __name__ == "__main__":
    main()
