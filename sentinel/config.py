"""`sentinel.yaml`: what the user settled once, checked to the letter.

An unknown key or a value out of range is an error with its file and line: a setting that is
silently ignored is worse than none.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from sentinel.alerting import Metrics, Notify, Tracker, Trackers
from sentinel.errors import ConfigError
from sentinel.priority import IoClass
from sentinel.settled import FILE_NAME, FailOn, Settled
from sentinel.sizes import size_of
from sentinel.supervision import ExitCodes, Hook, Seconds
from sentinel.verdict import Severity

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SHOWN_CHARACTERS = 40
"""How much of a wrong value an error message repeats."""

Policy = Literal["auto", "report", "stop"]
"""`auto` acts on certain findings, `report` never acts, `stop` stops the trainer and no more."""

OnHang = Literal["report", "restart"]

Count = Annotated[int, Field(strict=True, gt=0)]


def _scalar(value: object) -> object:
    if isinstance(value, bool | int | float | str):
        return value
    raise PydanticCustomError("scalar_type", "it should be a number, a text, true or false")


def _size(value: object) -> object:
    size_bytes = size_of(value) if isinstance(value, str) else value
    if isinstance(size_bytes, int) and not isinstance(size_bytes, bool) and size_bytes >= 0:
        return size_bytes
    raise PydanticCustomError("size_type", "it should be an amount such as 20GB")


Size = Annotated[int, BeforeValidator(_size)]

Rate = Annotated[Size, Field(gt=0)]

Nice = Annotated[int, Field(strict=True, ge=0, le=19)]

Scalar = Annotated[bool | int | float | str, BeforeValidator(_scalar)]


_RULE_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+")
_OFF = "off"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RuleSettings(_Settings):
    """What the user changed about the rules.

    ``paths`` are rule files or directories beside the catalogue, ``off`` ids of rules that are
    not asked, ``severity``, ``parameters`` and ``exclude`` (patterns of checkpoints' paths that a
    rule is not asked about) go by rule id. A file may also write all that belongs to one rule
    under its id: ``norm-explosion: {ratio: 20, severity: critical}`` or ``mixed-dtypes: off``.
    """

    paths: tuple[Path, ...] = ()
    off: tuple[str, ...] = ()
    severity: dict[str, Severity] = {}
    parameters: dict[str, dict[str, Scalar]] = {}
    exclude: dict[str, tuple[str, ...]] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, given: object) -> object:
        """Turn what stands under a rule's id into the settings of all rules."""
        if not isinstance(given, dict):
            return given
        gathered = {key: value for key, value in given.items() if key in cls.model_fields}
        for rule, wishes in given.items():
            if rule in cls.model_fields or not isinstance(rule, str):
                continue
            if wishes in (_OFF, False):
                gathered["off"] = (*gathered.get("off", ()), rule)
            elif isinstance(wishes, dict) and _RULE_ID.fullmatch(rule):
                _gather_rule(gathered, rule, wishes)
            else:
                gathered[rule] = wishes
        return gathered


def _gather_rule(gathered: dict[str, Any], rule: str, wishes: dict[str, object]) -> None:
    for name, value in wishes.items():
        if name in {"severity", "exclude"}:
            gathered[name] = {**gathered.get(name, {}), rule: value}
        else:
            ours = {**gathered.get("parameters", {}).get(rule, {}), name: value}
            gathered["parameters"] = {**gathered.get("parameters", {}), rule: ours}


class Config(_Settings):
    """Everything `sentinel.yaml` may say; the defaults are what sentinel does without one.

    ``baseline`` is a file of accepted findings, which do not count. ``act_on`` names rules of
    safety `likely` that policy `auto` may act on as well.
    ``settle_s``: how long a file without a completion mark must stay unchanged;
    ``torn_after_s``: how long an incomplete one may stay so before it is called torn;
    ``verdict_timeout_s``: how long a start waits for pending verdicts; ``grace_s``: between
    SIGTERM and SIGKILL; ``backoff_s`` doubles up to ``backoff_max_s`` with each attempt
    that fails without progress. ``hang_after_s`` without a new checkpoint or a line in a log is a
    hang (unset: not looked for), ``hang`` what `run` does about it. ``hooks`` are for `watch`,
    ``exit_codes`` for `run`.
    ``pin``: whether the newest good checkpoints are kept pinned (unset: `run` does, `watch` does
    not), ``pin_count`` of each run, in ``pin_dir`` (``pins`` in the state directory), all pins
    there within ``pin_budget``.
    ``nice`` and ``ionice`` (`same`, `lowest` or `idle`): how far the processes that read
    checkpoints give way to the training, ``max_read_rate``: how many bytes a second they read
    (unset: as fast as the disk gives them).
    ``metrics`` says where Prometheus finds the daemon's metrics, ``notify`` who gets messages,
    ``trackers`` into which of TensorBoard, MLflow and W&B verdicts are written.
    """

    state: Path | None = None
    log: Path | None = None
    baseline: Path | None = None
    rules: RuleSettings = RuleSettings()
    policy: Policy = "auto"
    act_on: tuple[str, ...] = ()
    settle_s: Seconds = Settled.settle_s
    torn_after_s: Seconds = 15.0
    verdict_timeout_s: Seconds = 120.0
    max_attempts: Count = 4
    grace_s: Seconds = 30.0
    backoff_s: Seconds = 2.0
    backoff_max_s: Seconds = 60.0
    hang_after_s: Seconds | None = None
    hang: OnHang = "report"
    hooks: tuple[Hook, ...] = ()
    exit_codes: ExitCodes = ExitCodes()
    fail_on: FailOn = Settled.fail_on
    pin: bool | None = None
    pin_dir: Path | None = None
    pin_budget: Size = 20 * 1000**3
    pin_count: Count = 2
    nice: Nice = 10
    ionice: IoClass = "lowest"
    max_read_rate: Rate | None = None
    metrics: Metrics = Metrics()
    notify: Notify = Notify()
    trackers: Trackers = ()

    def of_verdicts(self) -> Settled:
        """Return what a verdict depends on."""
        return Settled(self.settle_s, self.fail_on, self.baseline, self.rules)


def load_config(path: Path | None, cwd: Path) -> Config:
    """Read ``path``, or else `sentinel.yaml` in ``cwd``, or else return the defaults.

    Relative paths in the file are taken from the file's own directory, ``~`` from the home
    directory. Raises ConfigError with file and line for anything that cannot be used.
    """
    if path is None:
        path = cwd / FILE_NAME
        if not path.is_file():
            return Config()
    file = cwd / path
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        fact = error.strerror or str(error)
        raise ConfigError(
            "configuration", where=f"'{file}'", fact=fact.lower(), todo="check --config"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            "configuration", where=f"'{file}'", fact="it is no UTF-8 text", todo="save it as UTF-8"
        ) from error
    return _resolved(parse_config(text, file), file.parent)


def parse_config(text: str, file: Path) -> Config:
    """Check the text of a configuration; ``file`` is only what errors name."""
    try:
        root = yaml.compose(text, Loader=_Loader)
        for twice in _repeated_keys(root):
            raise _error(file, twice, f"setting '{twice.value}'", "it is given twice", "keep one")
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 - derived from SafeLoader
    except RecursionError as error:
        raise _error(file, None, "configuration", "it is nested too deep") from error
    except yaml.YAMLError as error:
        raise _yaml_error(file, error) from error
    try:
        return Config.model_validate({} if data is None else data)
    except ValidationError as error:
        raise _setting_error(file, root, error.errors()[0]) from error


def default_state_dir() -> Path:
    """Return where this platform keeps a user's state, for sentinel."""
    from platformdirs import user_state_path  # noqa: PLC0415 - seldom needed

    return user_state_path("checkpoint-sentinel", appauthor=False)


class _Loader(yaml.SafeLoader):
    """YAML with the words of version 1.2: `off`, `on`, `yes` and `no` are texts, not booleans.

    Otherwise the key ``off`` under ``rules`` would read as False
    (https://yaml.org/spec/1.2.2/#1032-tag-resolution). Dates stay texts too.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - shaped by the base class
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag not in {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"}
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")
)


def _resolved(config: Config, directory: Path) -> Config:
    def absolute(path: Path) -> Path:
        return directory / path.expanduser()

    rules = config.rules.model_copy(
        update={"paths": tuple(absolute(path) for path in config.rules.paths)}
    )
    return config.model_copy(
        update={
            "state": absolute(config.state) if config.state else None,
            "log": absolute(config.log) if config.log else None,
            "baseline": absolute(config.baseline) if config.baseline else None,
            "pin_dir": absolute(config.pin_dir) if config.pin_dir else None,
            "rules": rules,
            "trackers": tuple(one.resolved(directory) for one in config.trackers),
            "metrics": config.metrics.resolved(directory),
            "hooks": tuple(hook.resolved(directory) for hook in config.hooks),
        }
    )


_PARTS: dict[int | str, type[BaseModel]] = {
    "rules": RuleSettings,
    "hooks": Hook,
    "exit_codes": ExitCodes,
    "metrics": Metrics,
    "notify": Notify,
    "trackers": Tracker,
}

_FACTS = {
    "model_type": "it should hold names and values, like 'policy: report'",
    "tuple_type": "it should be a list",
    "dict_type": "it should hold names and values",
    "path_type": "it should be a path",
}
"""Sentences for the errors whose own message speaks of Python."""


def _setting_error(file: Path, root: yaml.Node | None, detail: ErrorDetails) -> ConfigError:
    location = detail["loc"]
    node = _node_at(root, location)
    name = ".".join(str(part) for part in location)
    what = f"setting '{name}'" if name else "configuration"
    if detail["type"] == "extra_forbidden":
        known = _PARTS.get(location[0], Config) if len(location) > 1 else Config
        names = sorted(known.model_fields)
        near = difflib.get_close_matches(str(location[-1]), names, n=1)
        todo = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(names)}"
        return _error(file, node, what, "there is no such setting", todo)
    message = _FACTS.get(detail["type"], detail["msg"].replace("Input", "it", 1))
    return _error(file, node, what, f"{message}, not {_shortened(detail['input'])}")


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def _yaml_error(file: Path, error: yaml.YAMLError) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark is not None else ""
    fact = getattr(error, "problem", None) or str(error).splitlines()[0]
    todo = "correct it there" if mark is not None else ""
    return ConfigError(
        "configuration", where=f"in '{file}{line}'", fact=f"not YAML: {fact}", todo=todo
    )


def _error(file: Path, node: yaml.Node | None, what: str, fact: str, todo: str = "") -> ConfigError:
    line = f":{node.start_mark.line + 1}" if node is not None else ""
    return ConfigError(what, where=f"in '{file}{line}'", fact=fact, todo=todo)


def _repeated_keys(root: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """Yield the keys that stand twice in one mapping: YAML itself would keep the last."""
    waiting = [root]
    visited: set[int] = set()  # an alias may point back to a node that holds it
    while waiting:
        node = waiting.pop()
        if not isinstance(node, yaml.MappingNode) or id(node) in visited:
            continue
        visited.add(id(node))
        names: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in names:
                yield key
            names.add(str(key.value))
            waiting.append(value)


def _node_at(root: yaml.Node | None, location: tuple[int | str, ...]) -> yaml.Node | None:
    """Return the key (or list item) that a validation error points at, as far as it goes."""
    node, found = root, root
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pairs = {str(key.value): (key, value) for key, value in node.value}
            if str(part) not in pairs:
                continue  # what stands under a rule's id has a longer name than the file gives it
            found, node = pairs[str(part)]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            found = node = node.value[part]
    return found
