"""What of each layout is copied, what goes with its optimizer, and how its trainer takes the copy.

Sources of what a trainer accepts: `_load_optimizer_and_scheduler` in transformers/trainer.py (both
files or neither), modules/modelLoader/mixin/InternalModelLoaderMixin.py of OneTrainer (a missing
optimizer is passed over), `load_accelerator_state` in accelerate/checkpointing.py (every file must
be there, so that without an optimizer only the weights are of use).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sentinel.receipt import OptimizerWish

_TRAINER = ("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt")


@dataclass(frozen=True, slots=True)
class Keeping:
    """How a checkpoint of one layout is copied.

    ``is_own`` says that its directory holds the checkpoint alone, so that all of it is copied;
    else only its members and the files beside them. ``with_optimizer`` are the files that go when
    the optimizer is dropped, None where the trainer's loader needs them all, so that the weights
    alone are left. ``takes`` and ``takes_weights`` say how to go on with the whole copy, and with
    one without optimizer; ``{path}`` is the copy.
    """

    takes: str
    takes_weights: str
    is_own: bool = False
    with_optimizer: tuple[str, ...] | None = ()
    by_name: bool = False
    """The trainer picks what to resume by the names that lie in its directory."""

    def how_to_go_on(self, optimizer: OptimizerWish) -> str:
        """Return how the trainer is told to take the copy."""
        return self.takes_weights if optimizer == "drop" else self.takes


_PEFT = "PeftModel.from_pretrained(model, '{path}')"
_INIT_LORA = (
    "--init_lora {path}/pytorch_lora_weights.safetensors --init_lora_step 0, with an empty output"
    " directory"
)
_ONETRAINER = (
    "continue_last_backup, with a workspace whose backup directory holds this alone; its own"
    " lora_weight_dtype decides the precision it trains in"
)

KEPT: Mapping[str, Keeping] = MappingProxyType(
    {
        "sentinel-train": Keeping(
            "sentinel-train --resume {path}",
            "sentinel-train --resume {path}",
            is_own=True,
            with_optimizer=_TRAINER,
            by_name=True,
        ),
        "transformers-trainer": Keeping(
            "trainer.train(resume_from_checkpoint='{path}')",
            "trainer.train(resume_from_checkpoint='{path}'), which begins a new schedule",
            is_own=True,
            with_optimizer=_TRAINER,
            by_name=True,
        ),
        "onetrainer-backup": Keeping(
            _ONETRAINER,
            _ONETRAINER,
            is_own=True,
            with_optimizer=("optimizer/optimizer.pt",),
            by_name=True,
        ),
        "simpletuner": Keeping(
            "--resume_from_checkpoint latest, with an output directory that holds this alone",
            _INIT_LORA,
            is_own=True,
            with_optimizer=None,
            by_name=True,
        ),
        "sd-scripts-state": Keeping(
            "--resume {path}",
            "--network_weights {path}/model.safetensors",
            is_own=True,
            with_optimizer=None,
        ),
        "accelerate-state": Keeping(
            "accelerator.load_state('{path}')",
            "load_model in place of accelerator.load_state",
            is_own=True,
            with_optimizer=None,
            by_name=True,
        ),
        "diffusers-lora": Keeping(
            "pipeline.load_lora_weights('{path}'), or --resume_from_checkpoint for a checkpoint-N",
            "pipeline.load_lora_weights('{path}')",
            with_optimizer=None,
            by_name=True,
        ),
        "peft": Keeping(_PEFT, _PEFT),
        "transformers-model": Keeping("from_pretrained('{path}')", "from_pretrained('{path}')"),
        "kohya": Keeping("--network_weights {path}", "--network_weights {path}"),
        "onetrainer-save": Keeping("lora_model_name {path}", "lora_model_name {path}"),
        "ai-toolkit": Keeping(
            "a training folder of its own, in which this file is the newest",
            "a training folder of its own, in which this file is the newest",
            by_name=True,
        ),
    }
)
"""By the layout's name; a checkpoint of any other is not repaired."""
