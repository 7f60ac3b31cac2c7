"""SimpleTuner by `simpletuner train`, which starts accelerate in a session of its own."""

from __future__ import annotations

import json
from types import MappingProxyType

from case import Case, Trainer

_COMMON = {
    "--model_type": "lora",
    "--model_family": "flux",
    "--lora_type": "standard",
    "--pretrained_model_name_or_path": "{here}/toy",
    "--output_dir": "{here}/output/cat",
    "--data_backend_config": "{here}/data.json",
    "--optimizer": "torch-adamw",
    "--mixed_precision": "no",
    "--max_train_steps": 60,
    "--num_train_epochs": 0,
    "--lr_scheduler": "constant",
    "--lr_warmup_steps": 0,
    "--lora_rank": 4,
    "--flux_lora_target": "context",
    "--checkpoint_step_interval": 10,
    "--checkpoints_total_limit": 9,
    "--seed": 1,
    "--report_to": "none",
    "--gradient_checkpointing": False,
    "--resume_from_checkpoint": "latest",
}
_SCRIPT = """#!{python}
import sys
from MODULE import main
sys.exit(main())
"""
"""What pip writes for a command."""


def _case(**changes: object) -> Case:
    told = {f"--{name}": value for name, value in changes.items()}
    return Case(
        files={
            "data.json": "[]",
            "config/cat/config.json": json.dumps({**_COMMON, **told}, indent=1),
            "bin/simpletuner": _SCRIPT.replace("MODULE", "simpletuner.cli"),
            "bin/accelerate": _SCRIPT.replace("MODULE", "accelerate.commands.accelerate_cli"),
        },
        command=("{here}/bin/simpletuner", "train", "--env", "cat"),
        act_on=("norm-explosion", "stalled-elements"),
    )


TRAINER = Trainer(
    checkout="SimpleTuner",
    repository="https://github.com/bghira/SimpleTuner",
    paths=("",),
    feeds="feeds_simpletuner",
    environment=MappingProxyType(
        {"SIMPLETUNER_LOG_LEVEL": "ERROR", "DISABLE_TELEMETRY": "1", "ACCELERATE_USE_CPU": "1"}
    ),
    cases=MappingProxyType({"learning rate 1": _case(learning_rate=1.0)}),
)
