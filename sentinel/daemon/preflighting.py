"""The user's command before its first step: what the rules say of it, told and, if asked, acted on.

An adapter that the training begins from is held against the base it will lie on now, whoever wrote
it: before the trainer finds out by an error after minutes of loading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sentinel.checkpoint import path_text
from sentinel.daemon.launching import RunSettings
from sentinel.daemon.telling import Teller
from sentinel.errors import ConfigError, InputError
from sentinel.flow import Judgement
from sentinel.formats.configs.reader import LATEST, RESUME, TrainingConfig
from sentinel.machine.device import device_settings
from sentinel.machine.packages import interpreter_of, version_settings, versions_of
from sentinel.preflight import Checked, check_config
from sentinel.rules.rule import Rule
from sentinel.verdict import Finding

_GRAVE = frozenset({"critical", "warning"})


@dataclass(frozen=True, slots=True)
class Before:
    """What is wrong before step 1: the grave findings, and what the training would begin from."""

    findings: tuple[Finding, ...] = ()
    start: Judgement | None = None


class Preflight:
    """Asks the rules about one user's command, as the recipe reads it."""

    def __init__(
        self,
        settings: RunSettings,
        *,
        rules: Sequence[Rule],
        base: Path | None,
        teller: Teller,
        on_note: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._base = base
        self._teller = teller
        self._on_note = on_note

    def told(self, attempt: int, known: Path | None) -> Before:
        """Say what the rules find before an attempt, and return it.

        ``known`` is the checkpoint that it begins from where that has its verdict already: of that
        one only what concerns this start is said.
        """
        checked = self._checked(known)
        if checked is None:
            return Before()
        start = checked.start
        findings = [found for found in checked.verdict.findings if found.severity in _GRAVE]
        if start is not None:
            is_known = known is not None and known.resolve() == start.checkpoint.path.resolve()
            findings += [
                found
                for found in start.verdict.findings
                if found.severity in _GRAVE and (found.scope == "run" or not is_known)
            ]
            start = None if is_known else start
        for found in findings:
            where = ""
            if start is not None and found in start.verdict.findings:
                where = f"'{path_text(start.checkpoint.path)}', from which it begins: "
            self._teller.tell(
                "finding",
                f"before step 1: {where}{found.message}",
                attempt=attempt,
                about=("before", found.rule),
                rule=found.rule,
            )
        return Before(tuple(findings), start)

    def _checked(self, known: Path | None) -> Checked | None:
        recipe, asked = self._settings.recipe, self._settings.asked
        if recipe is None or recipe.reads is None or not asked.settings:
            return None
        settings = dict(asked.settings)
        if known is None and asked.begins == LATEST:
            settings.pop(RESUME, None)  # there is no latest yet: it begins anew
        config = TrainingConfig(
            path=self._settings.cwd / "command",
            form="command",
            trainer=recipe.reads,
            settings=settings,
        )
        machine = {**device_settings(), **self._versions()}
        try:
            return check_config(config, rules=self._rules, machine=machine, base=self._base)
        except (InputError, ConfigError) as error:
            self._on_note(f"{error}; started all the same")
            return None

    def _versions(self) -> dict[str, str]:
        """Return the versions beside the trainer's interpreter, none where that is not known."""
        interpreter = interpreter_of(self._settings.command, self._settings.cwd)
        if interpreter is None:
            return {}
        try:
            return version_settings(versions_of(interpreter)[1])
        except ConfigError:
            return {}
