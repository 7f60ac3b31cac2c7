"""Entering OneTrainer's checkout: what has to be there before any of its modules is imported.

`mgds` (its data loading), torchvision, PyAV and OpenCV are stand-ins: nothing here loads a data
set or draws a sample. Only the clock and the two things that need a download or a data set are
replaced: reading the base model, and the data loader.
"""

# ruff: noqa: PLC0415 - a trainer can be imported only once its checkout was entered

from __future__ import annotations

import contextlib
import os
import runpy
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import diffusers
import transformers
from _stubs import stand_in

_BEGIN = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - OneTrainer names its files in local time


def enter(checkout: Path) -> Path:
    """Make OneTrainer importable and return the scratch directory, where it was called.

    OneTrainer reads its resources and asks git relative to where it runs.
    """
    scratch = Path.cwd()
    # The libraries look for these by name, and the stand-ins would deceive them.
    transformers.utils.import_utils.is_torchvision_available()
    for name in ("CLIPTextModel", "T5EncoderModel", "CLIPTokenizer"):
        getattr(transformers, name)
    getattr(diffusers, "StableDiffusionPipeline")  # noqa: B009 - it is the import that counts
    stand_in("mgds", "torchvision", "av", "cv2")
    sys.dont_write_bytecode = True
    sys.path[:0] = [str(checkout), str(checkout / "scripts")]
    os.chdir(checkout)
    return scratch


class Clock:
    """A clock that moves one second each time it is asked."""

    def __init__(self) -> None:
        self._asked = 0

    def timestamp(self) -> str:
        self._asked += 1
        return f"{_BEGIN + timedelta(seconds=self._asked):%Y-%m-%d_%H-%M-%S}"


class _Today(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        del tz
        return _BEGIN


def set_dates() -> None:
    """Let every file say the same date."""
    from modules.modelSaver.mixin import DtypeModelSaverMixin

    DtypeModelSaverMixin.datetime = _Today


def set_clock() -> None:
    """Let every run write the same names."""
    from modules.trainer import GenericTrainer

    GenericTrainer.get_string_timestamp = Clock().timestamp


def train(*arguments: str) -> Any:
    """Run `scripts/train.py` with arguments and return its trainer, after whatever it did.

    Raises what the script raises.
    """
    from modules.util import create

    kept: list[Any] = []
    real = create.create_trainer

    def keep(*given: Any, **named: Any) -> Any:
        kept.append(real(*given, **named))
        return kept[0]

    create.create_trainer = keep
    before = sys.argv
    sys.argv = ["train.py", *arguments]
    try:
        runpy.run_path("scripts/train.py", run_name="__main__")
    finally:
        create.create_trainer = real
        sys.argv = before
    return kept[0]


@contextlib.contextmanager
def feeding(batches: Any, fill: Any, scratch: Path) -> Iterator[None]:
    """Let the trainer read a toy base model and toy batches inside the block."""
    from modules.modelLoader.stableDiffusion.StableDiffusionModelLoader import (
        StableDiffusionModelLoader,
    )
    from modules.util import create

    def load(_: Any, model: Any, *given: Any) -> None:
        del given
        fill(model, scratch)

    before = (StableDiffusionModelLoader.load, create.create_data_loader)
    StableDiffusionModelLoader.load = load
    create.create_data_loader = lambda *_, **__: batches
    create.create_model_sampler = lambda *_, **__: None
    try:
        yield
    finally:
        StableDiffusionModelLoader.load, create.create_data_loader = before
