"""LLaMA-Factory by `python -m llamafactory.cli train`, which is what `llamafactory-cli` calls."""

from __future__ import annotations

import json
from types import MappingProxyType

import yaml
from case import Case, Trainer
from sentences import as_json

_COMMON = {
    "model_name_or_path": "{base}",
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_rank": 8,
    "lora_target": "all",
    "dataset": "small",
    "dataset_dir": "data",
    "template": "default",
    "cutoff_len": 128,
    "overwrite_cache": True,
    "preprocessing_num_workers": 1,
    "dataloader_num_workers": 0,
    "output_dir": "saves/cat",
    "logging_steps": 5,
    "save_steps": 10,
    "report_to": "none",
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "max_steps": 60,
    "lr_scheduler_type": "cosine",
    "use_cpu": True,
    "seed": 7,
}


def _case(**changes: object) -> Case:
    return Case(
        files={
            "data/small.json": as_json(),
            "data/dataset_info.json": json.dumps({"small": {"file_name": "small.json"}}),
            "cat.yaml": yaml.safe_dump({**_COMMON, **changes}),
        },
        command=("-m", "llamafactory.cli", "train", "cat.yaml"),
        act_on=("norm-explosion",),
    )


TRAINER = Trainer(
    checkout="LLaMA-Factory",
    repository="https://github.com/hiyouga/LLaMA-Factory",
    stands_in=("torchvision", "torchaudio"),
    environment=MappingProxyType({"DISABLE_VERSION_CHECK": "1"}),
    wants_base=True,
    cases=MappingProxyType({"learning rate 0.3": _case(learning_rate=0.3, warmup_ratio=0.1)}),
)
