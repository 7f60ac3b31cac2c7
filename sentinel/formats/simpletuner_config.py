"""What SimpleTuner was started with, as far as it lies near its checkpoints.

A checkpoint itself says little. With TensorBoard as tracker (`--report_to=tensorboard`) accelerate
writes the whole configuration to `<output_dir>/logs/<project>/<time>/hparams.yml`, once each start
(src/accelerate/tracking.py of https://github.com/huggingface/accelerate); some keep their
`config.json` in the output directory, its names with or without the leading dashes. Names:
simpletuner/simpletuner_sdk/server/services/field_registry of
https://github.com/bghira/SimpleTuner.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from sentinel.errors import InputError
from sentinel.formats.containers.json_text import read_json_object
from sentinel.formats.files import list_directory
from sentinel.formats.scalars import as_finite, as_text
from sentinel.formats.settings import Setting

CONFIG = "config.json"
LOGS = "logs"
STARTED_WITH = "hparams.yml"

_LARGEST = 256 * 1024
_MOST_STARTS = 200
_LINE = re.compile(r"(?P<key>[A-Za-z_]\w{0,100}): (?P<value>\S.*)")
_NOT_PLAIN = ("!", "&", "*", "[", "{", "|", ">", '"', "#", "%", "@", "`")
_PRECISIONS: Mapping[str, str] = MappingProxyType({"no": "fp32"})
_TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "optimizer": "optimizer.name",
        "lr_scheduler": "scheduler.name",
        "mixed_precision": "precision.mixed",
        "base_model_precision": "base.quantization",
        "pretrained_model_name_or_path": "base.path",
        "model_family": "base.version",
    }
)
_NUMBERS: Mapping[str, str] = MappingProxyType(
    {
        "learning_rate": "optimizer.learning_rate",
        "text_encoder_lr": "optimizer.text_encoder_learning_rate",
        "lr_warmup_steps": "scheduler.warmup_steps",
    }
)


def settings_near(checkpoint: Path, written_ns: int) -> dict[str, Setting]:
    """Return the settings of the start that a checkpoint written at that time belongs to.

    That is the last start before it; without any, the configuration in the output directory.
    """
    output = checkpoint.parent
    starts = [found for found in _starts(output) if found[0] <= written_ns]
    if starts:
        return settings_of(_flat_yaml(max(starts)[1]))
    try:
        content = read_json_object(output / CONFIG)
    except InputError:
        return {}
    named = {key.removeprefix("--"): value for key, value in content.items()}
    return settings_of(named) if {"model_family", "model_type"} <= named.keys() else {}


def settings_of(config: Mapping[str, object]) -> dict[str, Setting]:
    """Return the settings by dotted name; `optimizer_config` is `key=value,key=value`."""
    found: dict[str, Setting] = {}
    for key, name in _TEXTS.items():
        text = as_text(config.get(key))
        if text:
            found[name] = _PRECISIONS.get(text, text) if name == "precision.mixed" else text
    for key, name in _NUMBERS.items():
        number = as_finite(config.get(key))
        if number is not None:
            found[name] = number
    for pair in (as_text(config.get("optimizer_config")) or "").split(","):
        key, equals, value = pair.partition("=")
        if equals and key.strip():
            found[f"optimizer.args.{key.strip()}"] = _value(value.strip())
    return found


def updates_done(step: int | None, config: Mapping[str, Setting]) -> int | None:
    """Return the updates after the warm-up, None when nothing proves one.

    SimpleTuner's global step counts updates; the scheduler "constant" knows no warm-up.
    """
    rate = as_finite(config.get("optimizer.learning_rate"))
    warmup = as_finite(config.get("scheduler.warmup_steps")) or 0.0
    if step is None or not rate:
        return None
    updates = step if config.get("scheduler.name") == "constant" else step - int(warmup)
    return updates if updates > 0 else None


def _starts(output: Path) -> Iterator[tuple[int, Path]]:
    """Yield when each start was written down, and where."""
    looked_at = 0
    for project in _directories(output / LOGS):
        for start in _directories(project):
            looked_at += 1
            if looked_at > _MOST_STARTS:
                return
            path = start / STARTED_WITH
            try:
                yield path.stat().st_mtime_ns, path
            except OSError:
                continue


def _directories(path: Path) -> list[Path]:
    try:
        return [path / name for name in sorted(list_directory(path)[1])]
    except InputError:
        return []


def _flat_yaml(path: Path) -> dict[str, object]:
    """Return the single values of a flat YAML file, as `yaml.dump` writes them line by line.

    No YAML is loaded: such a file names Python classes (what `yaml.dump` makes of an enum), and
    the reader of a format with references and nesting could be kept busy for ever.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LARGEST)
    except (OSError, ValueError):
        return {}
    found = (_LINE.fullmatch(line) for line in text.splitlines())
    return {line["key"]: _scalar(line["value"]) for line in found if line}


def _scalar(text: str) -> object:
    if text.startswith("'"):
        return text[1:-1].replace("''", "'")
    if text == "null" or text.startswith(_NOT_PLAIN):
        return None
    return _value(text)


def _value(text: str) -> Setting:
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    try:
        number = as_finite(float(text))
    except ValueError:
        number = None
    return text if number is None else number
