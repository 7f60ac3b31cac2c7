"""The part of `sentinel.yaml` that says where a run's health is shown besides the terminal."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from sentinel.supervision import Seconds

LOOPBACK = "127.0.0.1"

Port = Annotated[int, Field(strict=True, ge=0, le=65535)]
Count = Annotated[int, Field(strict=True, gt=0)]
Address = Annotated[str, Field(strict=True, min_length=1, max_length=255)]

Occasion = Literal[
    "faulty", "unreadable", "suspect", "healthy", "repair", "outcome", "gave_up", "hang", "ended"
]
"""What a message may be about: a verdict that others did not have before, what is done about it
and what comes of that, a training without progress, and the end of a run."""

WAKING: tuple[Occasion, ...] = (
    "faulty", "unreadable", "healthy", "repair", "outcome", "gave_up", "hang",
)  # fmt: skip
"""What is told unless the user says otherwise."""

FIELDS = ("occasion", "run", "run_id", "step", "checkpoint", "what", "since", "does", "look", "at")
"""What a template of a message may name."""

_FIELD = re.compile(r"\{([^{}]*)\}")


def _fields_are_known(text: str) -> str:
    for name in _FIELD.findall(text):
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            known = f"perhaps '{{{near[0]}}}'" if near else f"known are {', '.join(FIELDS)}"
            raise PydanticCustomError(
                "no_field",
                "'{name}' is no field of a message ({known})",
                {"name": f"{{{name}}}", "known": known},
            )
    return text


def filled(template: str, values: dict[str, str]) -> str:
    """Return a template with its fields filled; what they bring is not looked at again."""
    return _FIELD.sub(lambda found: values.get(found[1], found[0]), template)


Url = Annotated[str, Field(strict=True, min_length=1, max_length=4096)]
Template = Annotated[
    str, Field(strict=True, min_length=1, max_length=10_000), AfterValidator(_fields_are_known)
]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Metrics(_Settings):
    """Where Prometheus finds the daemon's metrics; with neither ``port`` nor ``file`` nowhere.

    ``port`` 0 takes any that is free. ``file`` is for node_exporter's textfile collector: it
    outlives a daemon that ends.
    """

    port: Port | None = None
    address: Address = LOOPBACK
    file: Path | None = None

    def resolved(self, directory: Path) -> Self:
        """Return the settings with a relative path taken from a directory."""
        if self.file is None:
            return self
        return self.model_copy(update={"file": directory / self.file.expanduser()})


class Notify(_Settings):
    """Who is told by message, of what, and how often at most.

    ``urls`` are apprise's (https://github.com/caronc/apprise/wiki); `${NAME}` in one is taken
    from the environment. What comes within ``group_s`` of the first is one message; beyond
    ``per_hour`` messages the rest waits and is summed up. ``title`` and ``template`` are written
    for each occasion with the fields of a message. ``timeout_s`` is for one delivery.
    """

    urls: tuple[Url, ...] = ()
    events: tuple[Occasion, ...] = WAKING
    group_s: Seconds = 30.0
    per_hour: Count = 12
    title: Template = "{run}: {occasion} at {step}"
    template: Template = (
        "{run} at {step}: {what}\nSince: {since}\nSentinel: {does}\nLook closer: {look}"
    )
    picture: bool = True
    timeout_s: Seconds = 30.0


TrackerName = Literal["tensorboard", "mlflow", "wandb"]


def _named(given: object) -> object:
    return {"to": given} if isinstance(given, str) else given


class Tracker(_Settings):
    """One place where the training is looked at, into which verdicts are written too.

    What is not given is looked for where the training logs. ``directory`` is for TensorBoard's
    event files and W&B's offline runs, ``uri`` and ``run_id`` are MLflow's, ``project`` and
    ``group`` W&B's.
    """

    to: TrackerName
    directory: Path | None = None
    uri: Url | None = None
    run_id: Url | None = None
    project: Url | None = None
    group: Url | None = None

    def resolved(self, directory: Path) -> Self:
        """Return the settings with a relative path taken from a directory."""
        if self.directory is None:
            return self
        return self.model_copy(update={"directory": directory / self.directory.expanduser()})


Trackers = tuple[Annotated[Tracker, BeforeValidator(_named)], ...]
