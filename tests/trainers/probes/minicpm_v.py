"""MiniCPM-V: its own fine-tuning script on a model of a few numbers.

Stood in for: torchvision (image transforms). Model, tokenizer and data are ours, everything else is
its own: arguments, LoRA's set-up, trainer and savers. Its trainer needs Transformers 4.51.2 and
PEFT 0.14.0, which its requirements name. Without an accelerator neither fp16 nor DeepSpeed runs.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import json
import shlex
import sys
from pathlib import Path

import torch
import transformers
from _observing import Journal, plain, versions, without_times
from _stubs import stand_in
from _writing import described

CHECKOUT = Path(sys.argv[1])
FINETUNE = CHECKOUT / "finetune"
COMMON = "--output_dir out --data_path none --remove_unused_columns false --label_names labels "
COMMON += "--do_train --tune_llm false --use_lora true --max_steps 4 --save_strategy steps "
COMMON += "--save_steps 1 --logging_steps 1 --per_device_train_batch_size 1 --report_to none "
COMMON += "--gradient_checkpointing false --use_cpu true --save_total_limit 2 "
RUNS = {
    "bf16": COMMON + "--bf16 true --tune_vision true --output_dir bf16 --lora_r 4 --lora_alpha 8",
    "fp32": COMMON + "--tune_vision false --output_dir fp32",
    "resumed": COMMON + "--tune_vision false --output_dir fp32 --max_steps 6 "
    "--resume_from_checkpoint fp32/checkpoint-4",
    "declared and unused": COMMON + "--tune_vision false --output_dir unused "
    "--lora_modules_to_save lm_head --lora_weight_path nowhere",
}


def main() -> None:
    """Run the script as it is, and read what it and its shell scripts say."""
    sys.path.insert(0, str(FINETUNE))
    transformers.utils.is_torchvision_available()
    stand_in("torchvision")
    with contextlib.redirect_stdout(sys.stderr):
        import finetune  # noqa: PLC0415 - the checkout is only now on the path

        runs = {name: run(finetune, words.split()) for name, words in RUNS.items()}
    said = {
        "repository": "OpenBMB/MiniCPM-V",
        "versions": versions(),
        "runs": runs,
        "arguments": {
            kind.__name__: fields(kind)
            for kind in (
                finetune.ModelArguments,
                finetune.DataArguments,
                finetune.TrainingArguments,
                finetune.LoraArguments,
            )
        },
        "scripts": {path.name: script(finetune, path) for path in sorted(FINETUNE.glob("*.sh"))},
        "calls": calls(FINETUNE / "finetune.py"),
        "deepspeed": {
            path.name: json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(FINETUNE.glob("ds_config*.json"))
        },
    }
    print(json.dumps(said))


def run(finetune, words: list[str]) -> dict[str, object]:
    """Run `train()`, and return the files it left and their order."""
    root = Path(words[len(words) - 1 - words[::-1].index("--output_dir") + 1])
    torch.manual_seed(7)
    finetune.AutoModel = Loader(Model)
    finetune.AutoTokenizer = Loader(lambda **_named: Tokenizer())
    finetune.make_supervised_data_module = lambda **_named: {
        "train_dataset": [{"input_ids": torch.arange(4), "labels": torch.arange(4)}] * 8,
        "data_collator": lambda rows: {
            key: torch.stack([row[key] for row in rows]) for key in rows[0]
        },
    }
    sys.argv[1:] = words
    journal = Journal(root)
    with journal.watching():
        finetune.train()
    written = [event for event in journal.events if event.startswith("write checkpoint-4/")]
    files = {
        name: facts
        for name, facts in described(root).items()
        if not name.startswith("checkpoint-") or name.startswith(("checkpoint-4/", "checkpoint-6/"))
    }
    steps = [path.name for path in sorted(root.glob("checkpoint-*"))]
    return {
        "arguments": " ".join(words),
        "files": without_times(files),
        "order": written,
        "checkpoints": steps,
    }


def fields(kind: type) -> dict[str, object]:
    """Return the fields a dataclass of arguments adds to those of its parent, with defaults."""
    inherited = {
        field.name
        for base in kind.__bases__
        if dataclasses.is_dataclass(base)
        for field in dataclasses.fields(base)
    }
    own = kind.__annotations__
    return {
        field.name: plain(field.default)
        for field in dataclasses.fields(kind)
        if field.name in own or field.name not in inherited
    }


def script(finetune, path: Path) -> dict[str, object]:
    """Return the options a shell script gives to the script, and those its parser refuses."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    line = next(line for line in text.splitlines() if line.startswith("torchrun"))
    words = shlex.split(line, comments=True)
    words = words[words.index("finetune.py") + 1 :]
    parser = transformers.HfArgumentParser(
        (
            finetune.ModelArguments,
            finetune.DataArguments,
            finetune.TrainingArguments,
            finetune.LoraArguments,
        )
    )
    known = {option for action in parser._actions for option in action.option_strings}
    options: dict[str, str | None] = {}
    for word, after in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            options[word] = None if after.startswith("--") else after
    return {"options": options, "refused": sorted(set(options) - known)}


def calls(path: Path) -> dict[str, list[str]]:
    """Return the arguments with which the script calls its trainer's and model's functions."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = ast.unparse(node.func)
            if name in {"trainer.train", "trainer.save_state", "trainer.save_model"}:
                found[name] = [ast.unparse(one) for one in [*node.args, *node.keywords]]
    return found


class Loader:
    """Answers `from_pretrained` with what is made here."""

    def __init__(self, make):
        self.make = make

    def from_pretrained(self, path, *, torch_dtype=torch.float32, **named):
        """Return the model in the dtype asked for."""
        del path, named
        made = self.make()
        return made.to(torch_dtype) if isinstance(made, torch.nn.Module) else made


class Tokenizer:
    """Writes one file, as a tokenizer would."""

    def save_pretrained(self, directory):
        """Write it."""
        (Path(directory) / "tokenizer_config.json").write_text("{}", encoding="utf-8")


class Config(transformers.PretrainedConfig):
    """What the script asks of a model's configuration."""

    model_type = "minicpmv"
    patch_size = 14
    query_num = 64
    vocab_size = 8


class Model(transformers.PreTrainedModel):
    """A language model, a vision tower and a resampler, named as MiniCPM-V's are."""

    config_class = Config

    def __init__(self):
        super().__init__(Config())
        config = transformers.LlamaConfig(
            vocab_size=8,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
        )
        self.llm = transformers.LlamaForCausalLM(config)
        self.vpm = torch.nn.Sequential(torch.nn.Linear(8, 8))
        self.resampler = torch.nn.Sequential(torch.nn.Linear(8, 8))

    def get_input_embeddings(self):
        """Return the language model's."""
        return self.llm.get_input_embeddings()

    def forward(self, data, **named):
        """Return logits that every trained parameter has a part in."""
        del named
        hidden = self.resampler(self.vpm(self.get_input_embeddings()(data["input_ids"])))
        return self.llm(inputs_embeds=hidden)


if __name__ == "__main__":
    main()
