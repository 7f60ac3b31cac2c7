"""Axolotl by `python -m axolotl.cli.train`, which is what `axolotl train` calls."""

from __future__ import annotations

from types import MappingProxyType

import yaml
from case import Case, Trainer
from sentences import as_lines

_COMMON = {
    "base_model": "{base}",
    "datasets": [{"path": "data.jsonl", "ds_type": "json", "type": "alpaca"}],
    "dataset_prepared_path": "prepared",
    "output_dir": "./outputs/cat",
    "sequence_len": 256,
    "adapter": "lora",
    "lora_r": 8,
    "lora_alpha": 16,
    "lora_target_linear": True,
    "micro_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "max_steps": 60,
    "save_steps": 10,
    "logging_steps": 5,
    "optimizer": "adamw_torch",
    "lr_scheduler": "cosine",
    "warmup_steps": 5,
    "bf16": False,
    "fp16": False,
    "tf32": False,
    "val_set_size": 0,
    "dataset_num_proc": 1,
    "seed": 7,
    "special_tokens": {"pad_token": "<pad>"},
    "use_cpu": True,
    "lora_qkv_kernel": False,
    "lora_mlp_kernel": False,
    "lora_o_kernel": False,
    "lora_embedding_kernel": False,
}
_STANDS_IN = ("torchvision", "numba", "fastcore", "triton", "evaluate", "optimum")


def _case(**changes: object) -> Case:
    return Case(
        files={"data.jsonl": as_lines(), "cat.yml": yaml.safe_dump({**_COMMON, **changes})},
        command=("-m", "axolotl.cli.train", "cat.yml"),
        act_on=("norm-explosion",),
    )


TRAINER = Trainer(
    checkout="axolotl",
    repository="https://github.com/axolotl-ai-cloud/axolotl",
    stands_in=(*_STANDS_IN, "wandb", "mlflow"),
    version_file="VERSION",
    environment=MappingProxyType(
        {"AXOLOTL_DO_NOT_TRACK": "1", "DO_NOT_TRACK": "1", "ACCELERATE_USE_CPU": "1"}
    ),
    wants_base=True,
    cases=MappingProxyType({"learning rate 0.3": _case(learning_rate=0.3)}),
)
