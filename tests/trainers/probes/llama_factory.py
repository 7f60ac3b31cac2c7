"""LLaMA-Factory: whole trainings by its own `run_exp` on a language model of a few numbers.

Stood in for: torchvision, torchaudio (images, sound). Model, tokenizer and sentences are ours,
everything else is its own: arguments, adapters, trainer, callbacks, what is resumed. It needs
Transformers up to 5.8.0, PEFT 0.18.1 and TRL 0.24.0, which its requirements name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import sys
from pathlib import Path

import torch
import transformers
from _observing import Journal, plain, versions, without_times
from _small_llama import save_small_llama
from _stubs import stand_in
from _writing import described

CHECKOUT = Path(sys.argv[1])
COMMON = {
    "model_name_or_path": "base",
    "dataset": "small",
    "dataset_dir": "data",
    "template": "default",
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_rank": 4,
    "lora_target": "q_proj,v_proj",
    "cutoff_len": 32,
    "max_steps": 4,
    "save_steps": 2,
    "logging_steps": 1,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "learning_rate": 1e-3,
    "optim": "adamw_torch",
    "report_to": "none",
    "use_cpu": True,
    "preprocessing_num_workers": 1,
    "dataloader_num_workers": 0,
    "overwrite_cache": True,
    "seed": 7,
}
RUNS = {
    "lora": {"lora_alpha": 8, "weight_decay": 0.05, "bf16": True, "save_total_limit": 2},
    "auto resumed": {"output_dir": "lora", "learning_rate": 3e-3, "max_steps": 6, "bf16": True},
    "weights only": {"adapter_name_or_path": "lora/checkpoint-4", "learning_rate": 3e-3},
    "dora, whole head": {"use_dora": True, "additional_target": "lm_head"},
    "rslora in pure bf16": {"use_rslora": True, "pure_bf16": True},
    "pissa": {"pissa_init": True, "pissa_convert": True},
    "oft": {"finetuning_type": "oft", "oft_block_size": 4, "oft_target": "q_proj"},
}
DATACLASSES = ("ModelArguments", "DataArguments", "TrainingArguments", "FinetuningArguments")


def main() -> None:
    """Run every training and say what it wrote."""
    sys.path.insert(0, str(CHECKOUT / "src"))
    os.environ["DISABLE_VERSION_CHECK"] = "1"
    transformers.utils.is_torchvision_available()
    stand_in("torchvision", "torchaudio")
    torch.manual_seed(7)
    save_small_llama(Path("base"))
    sentences = [{"instruction": "abc", "input": "", "output": "de"}] * 8
    Path("data").mkdir()
    Path("data/small.json").write_text(json.dumps(sentences), encoding="utf-8")
    Path("data/dataset_info.json").write_text('{"small": {"file_name": "small.json"}}')
    with contextlib.redirect_stdout(sys.stderr):
        runs = {name: run(name, arguments) for name, arguments in RUNS.items()}
        kinds = importlib.import_module("llamafactory.hparams")
        arguments = {name: fields(getattr(kinds, name)) for name in DATACLASSES}
        constants = importlib.import_module("llamafactory.extras.constants")
    said = {
        "repository": "hiyouga/LLaMA-Factory",
        "versions": versions(),
        "runs": runs,
        "arguments": arguments,
        "names": {
            name: getattr(constants, name)
            for name in ("TRAINER_LOG", "RUNNING_LOG", "LLAMABOARD_CONFIG", "TRAINING_ARGS")
        },
        "web": web(Path("web")),
    }
    print(json.dumps(said))


def run(name: str, arguments: dict[str, object]) -> dict[str, object]:
    """Train, and return the files it left, their order and what it went on from."""
    output = str(arguments.get("output_dir", name.replace(" ", "-").replace(",", "")))
    given = {**COMMON, **arguments, "output_dir": output}
    before = {path.name for path in Path(output).glob("checkpoint-*")}
    journal = Journal(Path(output))
    torch.manual_seed(7)
    try:
        with journal.watching():
            importlib.import_module("llamafactory.train.tuner").run_exp(dict(given))
    except Exception as error:  # noqa: BLE001 - that it cannot be done is a fact as well
        return {"arguments": given, "error": f"{type(error).__name__}: {error}"[:500]}
    new = {path.name for path in Path(output).glob("checkpoint-*")} - before
    last = max(new, key=lambda one: int(one.rpartition("-")[2]))
    kept = (f"{last}/", "trainer_log.jsonl", "trainer_state.json", "adapter_", "pissa")
    files = {
        path: facts
        for path, facts in described(Path(output)).items()
        if path.startswith(kept) and not path.endswith(("tokenizer.json", "README.md"))
    }
    order = [event for event in journal.events if event.split()[1].startswith(f"{last}/")]
    return {"arguments": given, "files": without_times(files), "order": order, "new": sorted(new)}


def web(root: Path) -> dict[str, object]:
    """Return what the web interface writes beside a training it starts."""
    common = importlib.import_module("llamafactory.webui.common")
    common.save_cmd({"output_dir": str(root), "learning_rate": 1e-3, "bf16": True})
    common.save_args(str(root / "llamaboard_config.yaml"), {"train.learning_rate": "1e-3"})
    return described(root)


def fields(kind: type) -> dict[str, object]:
    """Return the fields a dataclass of arguments adds to Transformers' own, with defaults."""
    inherited = {one.name for one in dataclasses.fields(transformers.Seq2SeqTrainingArguments)}
    return {
        one.name: plain(one.default if one.default is not dataclasses.MISSING else None)
        for one in dataclasses.fields(kind)
        if one.name not in inherited
    }


if __name__ == "__main__":
    main()
