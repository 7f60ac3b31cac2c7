"""axolotl: whole trainings by its own command on a language model of a few numbers.

Stood in for: torchvision, numba, fastcore, triton, evaluate, wandb, mlflow (images, packing,
notebooks, kernels, metrics, trackers). Model, tokenizer and sentences are ours, everything else is
its own: configuration, adapters, trainer, callbacks, logs, what is resumed. Telemetry is off. Its
process pools start this file once more. It needs Transformers 5.14.1, PEFT 0.19.1 and TRL 1.8.0,
which its requirements name.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import os
import re
import sys
from pathlib import Path

import torch
import transformers
import yaml
from _observing import Journal, plain, versions, without_times
from _small_llama import save_small_llama
from _stubs import stand_in
from _writing import described

CHECKOUT = Path(sys.argv[1])
COMMON = {
    "base_model": "base",
    "datasets": [{"path": "data.jsonl", "ds_type": "json", "type": "alpaca"}],
    "dataset_prepared_path": "prepared",
    "sequence_len": 512,
    "adapter": "lora",
    "lora_r": 4,
    "lora_alpha": 8,
    "lora_target_modules": ["q_proj", "v_proj"],
    "micro_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "max_steps": 4,
    "save_steps": 2,
    "logging_steps": 1,
    "optimizer": "adamw_torch",
    "learning_rate": 1e-3,
    "lr_scheduler": "constant_with_warmup",
    "warmup_steps": 1,
    "bf16": False,
    "fp16": False,
    "tf32": False,
    "val_set_size": 0,
    "dataset_num_proc": 1,
    "seed": 7,
    "special_tokens": {"pad_token": "<pad>"},
    "include_tkps": True,
    "use_cpu": True,
    "lora_qkv_kernel": False,
    "lora_mlp_kernel": False,
    "lora_o_kernel": False,
    "lora_embedding_kernel": False,
}
RUNS = {
    "lora": {"weight_decay": 0.05, "save_total_limit": 2},
    "auto resumed": {
        "output_dir": "lora",
        "learning_rate": 3e-3,
        "max_steps": 6,
        "auto_resume_from_checkpoints": True,
    },
    "weights only": {"lora_model_dir": "lora/checkpoint-4", "learning_rate": 3e-3},
    "dora and rslora": {"peft_use_dora": True, "peft_use_rslora": True},
}


def main() -> None:
    """Run every training and say what it wrote."""
    sys.path.insert(0, str(CHECKOUT / "src"))
    os.environ |= {
        "AXOLOTL_DO_NOT_TRACK": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "ACCELERATE_USE_CPU": "1",
    }
    transformers.utils.is_torchvision_available()
    torch.manual_seed(7)
    save_small_llama(Path("base"))
    stand_in("torchvision", "numba", "fastcore", "triton", "evaluate", "optimum", "wandb", "mlflow")
    row = json.dumps({"instruction": "abc", "input": "", "output": "de"})
    Path("data.jsonl").write_text(f"{row}\n" * 8, encoding="utf-8")
    known = importlib.metadata.version
    own = (CHECKOUT / "VERSION").read_text(encoding="utf-8").strip()
    importlib.metadata.version = lambda name: own if name == "axolotl" else known(name)
    with contextlib.redirect_stdout(sys.stderr):
        runs = {name: run(name, given) for name, given in RUNS.items()}
        schema = importlib.import_module("axolotl.utils.schemas.config").AxolotlInputConfig
        fields = {
            name: [str(field.annotation).replace("typing.", ""), plain(field.get_default())]
            for name, field in sorted(schema.model_fields.items())
        }
        latest = choices(Path("choices"))
    said = {
        "repository": "axolotl-ai-cloud/axolotl",
        "versions": versions(),
        "runs": runs,
        "fields": fields,
        "choices": latest,
    }
    print(json.dumps(said))


def run(name: str, given: dict[str, object]) -> dict[str, object]:
    """Train, and return the files it left and their order."""
    output = str(given.get("output_dir", name.replace(" ", "-")))
    config = {**COMMON, **given, "output_dir": output}
    Path("config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    before = {path.name for path in Path(output).glob("checkpoint-*")}
    importlib.import_module("axolotl.utils.tee")._log_path = None
    journal = Journal(Path(output))
    torch.manual_seed(7)
    with journal.watching():
        importlib.import_module("axolotl.cli.train").do_cli("config.yml")
    new = {path.name for path in Path(output).glob("checkpoint-*")} - before
    last = max(new, key=lambda one: int(one.rpartition("-")[2]))
    files = {
        path: facts
        for path, facts in described(Path(output)).items()
        if path.startswith(f"{last}/") or "/" not in path
        if not path.endswith(("tokenizer.json", "chat_template.jinja"))
    }
    files["debug.log"] = {"text": starts(files["debug.log"]["text"])}
    order = [event for event in journal.events if event.split()[1].startswith(f"{last}/")]
    return {
        "configuration": config,
        "files": without_times(files),
        "order": order,
        "new": sorted(new),
    }


def starts(log: str) -> str:
    """Return the part of a log that every start begins with, its clock and process still."""
    found = re.findall(r"^\[[^\n]*\] config:\n\{\n.*?\n\}\n", log, re.DOTALL | re.MULTILINE)
    clock = re.compile(r"\[\d{4}-[^\]]*\]|\[PID:\d+\]")
    return "".join(clock.sub("[]", one) + "[] more\n" for one in found)


def choices(root: Path) -> dict[str, object]:
    """Return the checkpoint that is resumed from, among directories and files of many names."""
    names = ("checkpoint-2", "checkpoint-10", "checkpoint-9", "checkpoint-9-fixed", "checkpoint-x")
    for name in names:
        (root / name).mkdir(parents=True)
    (root / "checkpoint-99").write_bytes(b"")
    configuration = importlib.import_module("axolotl.utils.dict").DictDefault(
        {"output_dir": str(root), "auto_resume_from_checkpoints": True}
    )
    choose = importlib.import_module("axolotl.utils.train").determine_last_checkpoint
    return {"among": [*names, "checkpoint-99 (a file)"], "latest": Path(choose(configuration)).name}


if __name__ == "__main__":
    main()
