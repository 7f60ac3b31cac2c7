"""SimpleTuner's arguments, its configuration files, and how it chooses among checkpoints."""

# ruff: noqa: PLC0415 - a trainer can be imported only once its checkout was entered

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from _observing import options_of


def accepted() -> dict[str, object]:
    """Return every argument with its kind, default and choices, and other names of arguments."""
    from simpletuner.helpers.configuration.cmd_args import get_argument_parser

    parser = get_argument_parser()
    options = options_of(parser)
    aliases = {
        other: max(action.option_strings, key=len)
        for action in parser._actions
        for other in action.option_strings
        if other != max(action.option_strings, key=len) and other != "-h"
    }
    return {"arguments": {"train": options}, "aliases": aliases, "optimizers": _optimizers()}


def overriding(scratch: Path) -> list[dict[str, object]]:
    """Return what becomes of arguments beside a `config/config.json`, by SimpleTuner's loader."""
    cases: tuple[tuple[str, dict[str, object], list[str]], ...] = (
        ("json", {"--learning_rate": 1e-3}, []),
        ("json", {"learning_rate": 1e-3}, []),
        ("json", {"--learning_rate": 1e-3}, ["--learning_rate=5e-4"]),
        ("json", {"--mixed_precision": "fp32"}, []),
        ("json", {"--no_such_field": 1}, []),
        ("cmd", {}, ["--learning_rate=5e-4"]),
    )
    return [
        {"backend": backend, "file": content, "given": words, **_loaded(scratch, *case)}
        for case in cases
        for backend, content, words in [case]
    ]


def latest(scratch: Path) -> list[dict[str, object]]:
    """Return which directory a resume takes, and which ones a limit of one removes."""
    from simpletuner.helpers.utils.checkpoint_manager import CheckpointManager

    cases: tuple[list[str], ...] = (
        ["checkpoint-9", "checkpoint-10"],
        ["checkpoint-10", "checkpoint-11-rolling"],
        ["checkpoint-10", "checkpoint-12-tmp"],
        ["checkpoint-10", "checkpoint-12-fixed"],
        ["checkpoint-10", "checkpoint-broken"],
        ["checkpoint-10", ".sentinel-quarantine"],
        ["checkpoint-10", "quarantine"],
    )
    found: list[dict[str, object]] = []
    for at, names in enumerate(cases):
        output = scratch / f"latest-{at}"
        for name in names:
            (output / name).mkdir(parents=True)
        manager = CheckpointManager(str(output))
        picked = manager.get_latest_checkpoint()
        try:
            manager.cleanup_checkpoints(1)
            left: object = sorted(path.name for path in output.iterdir())
        except ValueError as error:
            left = type(error).__name__
        found.append({"directories": names, "picked": picked, "left_by_limit_1": left})
    return found


def validity(files: dict[str, object], scratch: Path) -> list[dict[str, object]]:
    """Return what its own check says of a checkpoint without one of its files."""
    from simpletuner.helpers.utils.checkpoint_manager import CheckpointManager

    output = scratch / "validity"
    (output / "checkpoint-3").mkdir(parents=True)
    found: list[dict[str, object]] = []
    for gone in ("", *files):
        for name in files:
            path = output / "checkpoint-3" / name
            path.parent.mkdir(exist_ok=True)
            text = json.dumps({"global_step": 3}) if name == "training_state.json" else ""
            path.write_text(text, encoding="utf-8")
        (output / "checkpoint-3" / gone).unlink() if gone else None
        manager = CheckpointManager(str(output))
        valid, _ = manager.validate_checkpoint("checkpoint-3")
        guarded = manager.get_latest_checkpoint(require_guard=True) is not None
        found.append({"without": gone, "valid": valid, "guarded": guarded})
    return found


def _loaded(
    scratch: Path, backend: str, content: dict[str, object], words: list[str]
) -> dict[str, object]:
    from simpletuner.helpers.configuration.loader import load_config

    common = {
        "--model_type": "lora",
        "--model_family": "flux",
        "--optimizer": "adamw_bf16",
        "--output_dir": str(scratch / "overriding"),
        "--data_backend_config": str(scratch / "data.json"),
        "--pretrained_model_name_or_path": "toy/flux",
        "--num_train_epochs": 0,
        "--max_train_steps": 1,
    }
    (scratch / "data.json").write_text("[]", encoding="utf-8")
    (scratch / "config").mkdir(exist_ok=True)
    text = json.dumps({**common, **content})
    (scratch / "config" / "config.json").write_text(text, encoding="utf-8")
    before, sys.argv = sys.argv, ["train.py", *words]
    if backend == "cmd":
        sys.argv += [f"{key}={value}" for key, value in common.items()]
    os.environ["CONFIG_BACKEND"] = backend
    try:
        found = load_config(None, exit_on_error=True)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises is the fact
        return {"raises": type(error).__name__}
    finally:
        sys.argv = before
        del os.environ["CONFIG_BACKEND"]
    return {"becomes": {"learning_rate": found.learning_rate, "mixed": found.mixed_precision}}


def _optimizers() -> dict[str, object]:
    """Return SimpleTuner's optimizers with their settings."""
    from simpletuner.helpers.training.optimizer_param import optimizer_choices

    return {
        name: {key: _plain(value) for key, value in one.get("default_settings", {}).items()}
        for name, one in sorted(optimizer_choices.items())
    }


def _plain(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, str | int | float | bool) else repr(value)
