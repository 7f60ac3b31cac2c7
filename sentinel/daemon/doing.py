"""What sentinel does by itself about findings, said in a sentence for messages."""

from __future__ import annotations

from collections.abc import Iterable

from sentinel.config import Config
from sentinel.daemon.launching import RunSettings
from sentinel.daemon.noticing import Does
from sentinel.daemon.repairing import acting
from sentinel.verdict import Finding

_UNSURE = "reports only: nothing here is certain enough to act on (`act_on` in sentinel.yaml)"


def watch_does(config: Config) -> Does:
    """Return what a watch does: its hooks, where there are any."""
    act_on = frozenset(config.act_on)

    def does(findings: Iterable[Finding]) -> str:
        if not config.hooks or config.policy == "report":
            return "reports only, the training goes on"
        return "runs the hooks of sentinel.yaml" if acting(findings, act_on) else _UNSURE

    return does


def run_does(settings: RunSettings) -> Does:
    """Return what the supervision of a run does, as its policy and recipe allow."""

    def does(findings: Iterable[Finding]) -> str:
        if settings.policy == "report":
            return "reports only (policy: report), the training goes on"
        if not acting(findings, settings.act_on):
            return _UNSURE
        if settings.policy == "stop" or settings.recipe is None:
            return "stops the trainer and moves the checkpoint out of its reach"
        return (
            "stops the trainer, moves the checkpoint out of its reach and starts again from the"
            " last good one"
        )

    return does
