"""Train a recipe of this benchmark by TRL's SFTTrainer: `with_trl.py RECIPE.json OUT LOSS`.

Each step appends a line to `OUT/metrics.jsonl` with the keys of sentinel-train's. LOSS is TRL's
`loss_type`. What TRL computes for its own log (entropy, accuracy of tokens) stays as it is.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoTokenizer, BitsAndBytesConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Lines(TrainerCallback):
    """Note each step when it is logged."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(self, _args, state, _control, logs=None, **_) -> None:
        if "loss" not in (logs or {}):
            return
        on_gpu = torch.cuda.is_available()
        line = {
            "step": state.global_step,
            "loss": logs["loss"],
            "tokens": logs["num_tokens"],
            "memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
            "time": time.time(),
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def main() -> None:
    recipe = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out, loss = Path(sys.argv[2]), sys.argv[3]
    base, data, training = recipe["base"], recipe["data"], recipe["training"]
    out.mkdir()
    torch.set_num_threads(training["threads"])
    tokenizer = AutoTokenizer.from_pretrained(base["model"])
    trainer = SFTTrainer(
        model=base["model"],
        args=_arguments(recipe, out, loss),
        train_dataset=load_dataset("json", data_files=data["files"], split="train"),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=recipe["adapter"]["rank"],
            lora_alpha=recipe["adapter"]["alpha"],
            target_modules=recipe["adapter"]["target_modules"],
            task_type="CAUSAL_LM",
        ),
        callbacks=[Lines(out / "metrics.jsonl")],
    )
    trainer.train()


def _arguments(recipe: dict, out: Path, loss: str) -> SFTConfig:
    training, compute = recipe["training"], recipe["base"]["compute_dtype"]
    dtype = {"bf16": "bfloat16", "fp32": "float32"}[compute]
    on_gpu = torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(out),
        max_steps=training["steps"],
        per_device_train_batch_size=training["batch_size"],
        gradient_checkpointing=training["gradient_checkpointing"],
        gradient_checkpointing_kwargs={"use_reentrant": False},
        learning_rate=training["learning_rate"],
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=0,
        bf16=on_gpu and compute == "bf16",
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataset_text_field="text",
        max_length=recipe["data"]["block_size"],
        loss_type=loss,
        model_init_kwargs={"dtype": dtype, **_packed(recipe["base"]["quantization"], dtype)},
    )


def _packed(quantization: str, dtype: str) -> dict[str, BitsAndBytesConfig]:
    if quantization == "none":
        return {}
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=quantization,
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        )
    }


if __name__ == "__main__":
    main()
