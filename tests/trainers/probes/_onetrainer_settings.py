"""OneTrainer's configuration: its fields, enums and arguments, and how an override is applied."""

# ruff: noqa: PLC0415 - a trainer can be imported only once its checkout was entered

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from _observing import options_of
from _onetrainer_home import train


class _StoppedError(Exception):
    """Raised to go no further than what is asked."""


ENUMS = (
    "ConfigPart",
    "DataType",
    "EMAMode",
    "LearningRateScaler",
    "LearningRateScheduler",
    "LossScaler",
    "ModelFormat",
    "Optimizer",
    "TimeUnit",
    "TrainingMethod",
)


def accepted() -> dict[str, object]:
    """Return arguments, the configuration's fields with types and defaults, and its enums."""
    from modules.util.config.TrainConfig import (
        TrainConfig,
        TrainModelPartConfig,
        TrainOptimizerConfig,
    )
    from modules.util.enum.ModelType import ModelType, PeftType
    from modules.util.optimizer_util import OPTIMIZER_DEFAULT_PARAMETERS

    enums = {name: _enum(name) for name in ENUMS}
    settings = TrainConfig.default_values().to_settings_dict(secrets=False)
    settings["embedding"]["uuid"] = ""  # a new one each time
    return {
        "arguments": {"scripts/train.py": _arguments()},
        "config_version": TrainConfig.default_values().config_version,
        "fields": _fields(TrainConfig.default_values()),
        "part_fields": _fields(TrainModelPartConfig.default_values()),
        "optimizer_fields": _fields(TrainOptimizerConfig.default_values()),
        "settings": settings,
        "enums": {**enums, "PeftType": _values(PeftType), "ModelType": _values(ModelType)},
        "optimizer_defaults": {
            str(name): {key: _plain(value) for key, value in defaults.items()}
            for name, defaults in sorted(OPTIMIZER_DEFAULT_PARAMETERS.items(), key=str)
        },
        "trained_part": {str(one): one.denoising_model_part() for one in ModelType},
        "text_encoder_parts": {str(one): list(one.text_encoder_parts()) for one in ModelType},
        "lora_formats": {
            str(one): [str(form) for form in one.supported_lora_formats()] for one in ModelType
        },
    }


def overriding(config: Path) -> list[dict[str, object]]:
    """Return what becomes of `--config-value` arguments over a file, by the script's own loop.

    Each is what was given, the field's value after it or the exception's type, and whether the
    script printed that it could not set it.
    """
    given = (
        "lora_weight_dtype=FLOAT_32",
        "lora_weight_dtype=BFLOAT_16",
        "lora_weight_dtype=float_32",
        "lora_weight_dtype=FLOAT32",
        "continue_last_backup=true",
        "continue_last_backup=yes",
        "continue_last_backup=no",
        "learning_rate=1e-4",
        "learning_rate=small",
        "optimizer.optimizer=ADAMW",
        "optimizer.scale_parameter=False",
        "optimizer.relative_step=false",
        "optimizer.eps=1e-6",
        "unet.weight_dtype=NFLOAT_4",
        "learning_rate_scheduler=CONSTANT",
        "no_such_field=1",
        "no_such_part.train=true",
    )
    return [{"given": one, **_overridden(one, config)} for one in given]


def latest(scratch: Path) -> list[dict[str, object]]:
    """Return which directory `continue_last_backup` picks and which a rolling backup removes."""
    from modules.trainer.GenericTrainer import GenericTrainer
    from modules.util.config.TrainConfig import TrainConfig

    cases = (
        ["2026-01-02_03-04-05-backup-10-0-10", "2026-01-02_03-04-06-backup-9-0-9"],
        ["2026-01-02_03-04-05-backup-10-0-10", "2026-01-02_03-04-05-backup-9-0-9"],
        ["2026-01-02_03-04-05-backup-10-0-10", "quarantine"],
        ["2026-01-02_03-04-05-backup-10-0-10", ".sentinel-quarantine"],
        ["2026-01-02_03-04-05-backup-10-0-10", "2026-01-02_03-04-05-backup-10-0-10-repaired"],
    )
    found: list[dict[str, object]] = []
    for at, names in enumerate(cases):
        config = TrainConfig.default_values()
        config.workspace_dir = str(scratch / f"latest-{at}")
        backups = Path(config.workspace_dir) / "backup"
        for name in names:
            (backups / name).mkdir(parents=True)
        picked = Path(config.get_last_backup_path() or "").name
        trainer = GenericTrainer.__new__(GenericTrainer)
        trainer.config = config
        trainer._GenericTrainer__prune_backups(1)
        left = sorted(path.name for path in backups.iterdir())
        found.append({"directories": names, "picked": picked, "left_by_rolling_1": left})
    return found


def grad_scaling() -> list[dict[str, object]]:
    """Return for which precisions of training and of parameters the loss is scaled."""
    import torch
    from modules.util.dtype_util import enable_grad_scaling
    from modules.util.enum.DataType import DataType

    found: list[dict[str, object]] = []
    for training in ("FLOAT_16", "BFLOAT_16", "FLOAT_32"):
        for adapter in ("FLOAT_32", "FLOAT_16", "BFLOAT_16"):
            parameter = torch.nn.Parameter(torch.zeros(1, dtype=DataType[adapter].torch_dtype()))
            scaled = enable_grad_scaling(DataType[training], [parameter])
            found.append(
                {"train_dtype": training, "lora_weight_dtype": adapter, "scaled": bool(scaled)}
            )
    return found


def _overridden(given: str, path: Path) -> dict[str, object]:
    from modules.util import create

    seen: list[Any] = []

    def stop(config: Any, *_: object) -> None:
        seen.append(config)
        raise _StoppedError

    said = io.StringIO()
    real = create.create_trainer
    create.create_trainer = stop
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(_StoppedError):
            train("--config-path", str(path), "--config-value", given)
    except (KeyError, AttributeError) as error:
        return {"raises": type(error).__name__}
    finally:
        create.create_trainer = real
    value: Any = seen[0]
    for name in given.partition("=")[0].split("."):
        value = getattr(value, name)
    return {"becomes": _plain(value), "complains": "Could not set" in said.getvalue()}


def _arguments() -> dict[str, list[object]]:
    """Return the options of the parser that the script makes for itself."""
    from modules.util.args.TrainArgs import TrainArgs

    made: list[argparse.ArgumentParser] = []

    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        made.append(parser)
        raise _StoppedError

    real = argparse.ArgumentParser.parse_args
    argparse.ArgumentParser.parse_args = stop  # type: ignore[method-assign, assignment]
    try:
        with contextlib.suppress(_StoppedError):
            TrainArgs.parse_args()
    finally:
        argparse.ArgumentParser.parse_args = real  # type: ignore[method-assign]
    return options_of(made[0])


def _fields(config: Any) -> dict[str, str]:
    """Return each field's type; `?` marks one that may be null."""
    return {
        name: _type(kind) + "?" * config.nullables[name]
        for name, kind in sorted(config.types.items())
        if name != "secrets"
    }


def _type(kind: Any) -> str:
    inner = ", ".join(_type(one) for one in get_args(kind))
    name = getattr(kind, "__name__", str(kind))
    return f"{name}[{inner}]" if inner else name


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, float) and value in {float("inf"), float("-inf")}:
        return str(value)
    known = value is None or isinstance(value, str | int | float | bool | list | dict)
    return value if known else "..."


def _enum(name: str) -> list[str]:
    return _values(getattr(importlib.import_module(f"modules.util.enum.{name}"), name))


def _values(kind: type[Enum]) -> list[str]:
    return [str(one) for one in kind]
