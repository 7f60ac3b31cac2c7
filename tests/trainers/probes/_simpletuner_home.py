"""Entering SimpleTuner's checkout: what has to be there before any of its modules is imported.

Many heavy packages are stand-ins: nothing here loads a data set, draws a picture or talks to a
service. One class that a newer transformers no longer has is put back under its old name, so that
SimpleTuner can list all its models.
"""

# ruff: noqa: PLC0415 - a trainer can be imported only once its checkout was entered

from __future__ import annotations

import os
import sys
from pathlib import Path

import diffusers
import lycoris
import peft
import transformers
from _stubs import stand_in

STAND_INS = (
    "atomicwrites",
    "av",
    "boto3",
    "botocore",
    "bs4",
    "cv2",
    "ftfy",
    "hangul_romanize",
    "imageio",
    "librosa",
    "music_vocoder",
    "num2words",
    "pandas",
    "py3langid",
    "pypinyin",
    "skrample",
    "spacy",
    "torchaudio",
    "torchvision",
    "trainingsample",
    "wandb",
    "webshart",
)


def enter(checkout: Path) -> Path:
    """Make SimpleTuner importable and return the scratch directory, where it was called."""
    scratch = Path.cwd()
    os.environ |= {"SIMPLETUNER_LOG_LEVEL": "ERROR", "DISABLE_TELEMETRY": "1", "NO_COLOR": "1"}
    # The libraries look for what is installed by name, and the stand-ins would deceive them.
    transformers.utils.import_utils.is_torchvision_available()
    for library, name in (
        (transformers, "CLIPTextModel"),
        (diffusers, "FluxPipeline"),
        (peft, "LoraConfig"),
        (lycoris, "create_lycoris"),
    ):
        getattr(library, name)
    from transformers.models.qwen3_vl import modeling_qwen3_vl

    if not hasattr(modeling_qwen3_vl, "Qwen3VLCausalLMOutputWithPast"):
        modeling_qwen3_vl.Qwen3VLCausalLMOutputWithPast = modeling_qwen3_vl.BaseModelOutputWithPast
    stand_in(*STAND_INS)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(checkout))
    return scratch


def forget() -> None:
    """Let a new training begin in this process: SimpleTuner and accelerate keep state."""
    from accelerate.state import AcceleratorState
    from simpletuner.helpers.training.state_tracker import StateTracker

    AcceleratorState._reset_state(reset_partial_state=True)
    StateTracker.clear_data_backends()
    StateTracker.set_global_step(0)
    StateTracker.set_epoch(1)
