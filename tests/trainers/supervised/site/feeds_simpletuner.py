"""Lets SimpleTuner train a Flux of a few numbers: no pictures, and gradients drawn at random.

Its command, its processes, configuration, adapter, optimizer, saves and resumes are its own.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from _stubs import stand_in

_NOT_NEEDED = (
    "configure_webhook",
    "init_huggingface_hub",
    "init_preprocessing_models",
    "init_data_backend",
    "init_unload_text_encoder",
    "init_unload_vae",
    "init_validations",
    "init_benchmark_base_model",
    "run_startup_validation",
    "_recalculate_training_steps",
)


def _feed() -> None:
    """Replace what would want pictures or text, once SimpleTuner is imported."""
    torch = importlib.import_module("torch")
    runs = importlib.import_module("_simpletuner_runs")
    trainer = importlib.import_module("simpletuner.helpers.training.trainer").Trainer
    tracker = importlib.import_module("simpletuner.helpers.training.state_tracker").StateTracker
    real_resume = trainer.resume_and_prepare

    def resume(self: object) -> None:
        backend = {
            "id": "pictures",
            "config": {"instance_prompt": "a cat"},
            "dataset_type": "image",
            "train_dataloader": torch.utils.data.DataLoader([torch.zeros(1)] * 4),
        }
        tracker.register_data_backend(backend)
        real_resume(self)

    def train(self: object) -> None:
        every = int(self.config.checkpoint_step_interval)
        while self.state["global_step"] < int(self.config.max_train_steps):
            runs.step(self, every)
            self.checkpoint_state_save(self.config.output_dir)

    for name in _NOT_NEEDED:
        setattr(trainer, name, lambda *_, **__: None)
    trainer.resume_and_prepare, trainer.train = resume, train
    runs.base_model(Path(os.environ["SUPERVISED_HERE"]))


_called = {Path(word).name for word in sys.orig_argv[1:4]}
if _called & {"simpletuner", "train.py"}:
    _home = importlib.import_module("_simpletuner_home")
    _home.enter(Path(os.environ["SUPERVISED_CHECKOUT"]))
    stand_in("httpx", "cryptography")  # its command line knows clouds
if "train.py" in _called:
    _feed()
