"""Acting beside a trainer that sentinel did not start: only as `hooks` in sentinel.yaml say.

What fires is a faulty checkpoint on which `sentinel run` would act, once for each hook, also
across restarts: the intent is written before anything happens, then that it begins, then what
came of it. A signal to a known process may be sent twice; a command never is: one that was
begun when sentinel was killed may have done its work, so that is said and it is left at that.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from pathlib import Path

from sentinel.checkpoint import path_text
from sentinel.daemon.hook_command import CommandRun
from sentinel.daemon.hook_pid import PidStop, named_process
from sentinel.daemon.hook_result import Doing, HookResult
from sentinel.daemon.journal import Action, Journal, Judged
from sentinel.daemon.process import ProcessIdentity
from sentinel.daemon.recording import Outcome
from sentinel.daemon.repairing import acting
from sentinel.daemon.telling import Teller
from sentinel.daemon.written import written_s
from sentinel.errors import SentinelError, StateError
from sentinel.supervision import Hook, filled
from sentinel.verdict import Finding

FIRED = "hook"
BEGUN = "hook-begun"
WORKED = "hook-worked"
"""Kinds of actions: what is to be done, that it was begun, when a command last worked."""

_LOOK_S = 0.2
_FINISH_S = 0.05
_AGAIN_S = 5.0
_MESSAGE_CHARACTERS = 1000


class Hooks:
    """The hooks of one watch: offered verdicts, they act on those that ask for it.

    Those of one run go in order, one after the other. What the journal cannot take is tried again.
    """

    def __init__(
        self,
        hooks: Sequence[Hook],
        *,
        act_on: frozenset[str],
        journal: Journal,
        teller_of: Callable[[str], Teller],
        on_note: Callable[[str], None],
        cwd: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hooks = {_digest(hook): hook for hook in hooks}
        self._act_on = act_on
        self._journal = journal
        self._teller_of = teller_of
        self._on_note = on_note
        self._cwd = cwd
        self._clock = clock
        self._offered: deque[Judged] = deque()
        self._waiting: defaultdict[str, deque[Action]] = defaultdict(deque)
        self._doing: dict[str, tuple[Action, Doing]] = {}
        self._refusal = ""
        self._again_at_s = 0.0

    def begin(self, run_id: str) -> None:
        """Take up what was begun, and what has a verdict and was not acted on, in a run."""
        self._waiting[run_id].extend(self._journal.open_actions(run_id, FIRED))
        last = self._journal.last_attempt(run_id)
        if last is not None:
            self._offered.extend(self._journal.judged(run_id, last.attempt))

    def heard(self, listener: Callable[[Outcome], None]) -> Callable[[Outcome], None]:
        """Return a listener that is told and then lets the hooks look at the verdict."""

        def tell(outcome: Outcome) -> None:
            listener(outcome)
            self._offered.append(outcome.judged)

        return tell

    def next_look_s(self) -> float | None:
        """Return in how many seconds there is something to do, None when there is nothing."""
        if self._offered or self._doing or any(self._waiting.values()):
            return max(_LOOK_S, self._again_at_s - self._clock())
        return None

    def work(self) -> None:
        """Fire, begin and look after hooks; it waits for none of them."""
        if self._clock() < self._again_at_s:
            return
        try:
            while self._offered:
                self._fire(self._offered[0])
                self._offered.popleft()
            for run_id in {*self._waiting, *self._doing}:
                self._go_on(run_id)
        except StateError as error:
            if str(error) != self._refusal:
                self._on_note(str(error))
            self._refusal = str(error)
            self._again_at_s = self._clock() + _AGAIN_S
        else:
            self._refusal = ""

    def finish(self) -> None:
        """Wait for what is under way or due; not for what the journal refuses."""
        self.work()
        while (self._doing or any(self._waiting.values())) and not self._refusal:
            time.sleep(_FINISH_S)
            self.work()

    # -- from a verdict to an intent ----------------------------------------------------------

    def _fire(self, judged: Judged) -> None:
        if not acting(judged.findings, self._act_on):
            return
        at_s = written_s(judged.path)
        if at_s is None:
            return
        for name, hook in self._hooks.items():
            is_old = time.time() - at_s > hook.max_age_s
            if is_old or not _is_below(judged.path, hook.below):
                continue
            key = f"{judged.checkpoint_id}:{name}"
            if self._journal.action(judged.run_id, FIRED, key) is not None:
                continue
            detail = {"checkpoint_id": judged.checkpoint_id, "hook": name, "written_s": at_s}
            action = self._journal.intend(judged.run_id, FIRED, key, detail)
            self._waiting[judged.run_id].append(action)

    # -- from an intent to its end ------------------------------------------------------------

    def _go_on(self, run_id: str) -> None:
        doing = self._doing.get(run_id)
        if doing is not None:
            result = _looked(doing[1])
            if result is None:
                return
            self._end(doing[0], result)
            del self._doing[run_id]
        waiting = self._waiting[run_id]
        while waiting and run_id not in self._doing:
            action = waiting[0]
            judged = self._journal.checkpoint(str(action.detail["checkpoint_id"]))
            started = self._started(action, judged) if judged else HookResult.bad("is unknown")
            if isinstance(started, HookResult):
                self._end(action, started)
            else:
                self._doing[run_id] = (action, started)
            waiting.popleft()

    def _started(self, action: Action, judged: Judged) -> Doing | HookResult:
        hook = self._hooks.get(str(action.detail["hook"]))
        if hook is None:
            return HookResult.bad("it is not in sentinel.yaml any more, so it was not run")
        try:
            if hook.pid_file is not None:
                return self._stopping(action, hook)
            return self._running(action, hook, judged)
        except StateError:
            raise
        except SentinelError as error:
            return HookResult.bad(str(error))

    def _stopping(self, action: Action, hook: Hook) -> Doing:
        begun = self._journal.action(action.run_id, BEGUN, action.key)
        if begun is None:
            named = named_process(hook, _number(action, "written_s"))
            detail = {"pid": named.pid, "started_s": named.started_s}
            begun = self._journal.intend(action.run_id, BEGUN, action.key, detail)
        pid, started_s = int(_number(begun, "pid")), _number(begun, "started_s")
        return PidStop(ProcessIdentity(pid, started_s), hook)

    def _running(self, action: Action, hook: Hook, judged: Judged) -> Doing | HookResult:
        if self._journal.action(action.run_id, BEGUN, action.key) is not None:
            return HookResult.bad(
                "sentinel was killed while it ran: what came of it is not known, "
                "and it is not run again"
            )
        last = self._journal.action(action.run_id, WORKED, str(action.detail["hook"]))
        if last is not None:
            since_s = _number(action, "written_s") - _number(last, "at")
            if since_s <= hook.again_after_s:
                return HookResult.good("was not run again: it has just worked for this run")
        self._journal.intend(action.run_id, BEGUN, action.key, {})
        asked = (*acting(judged.findings, self._act_on), *judged.findings)[0]
        values = _values(judged, asked)
        return CommandRun.start(
            [filled(word, values) for word in hook.command],
            mark=f"hook:{action.key}",
            cwd=self._cwd,
            env=os.environ | {f"SENTINEL_{name.upper()}": value for name, value in values.items()},
            timeout_s=hook.timeout_s,
        )

    def _end(self, action: Action, result: HookResult) -> None:
        """Say what came of a hook and write down that it is over."""
        name = str(action.detail["hook"])
        hook = self._hooks.get(name)
        judged = self._journal.checkpoint(str(action.detail["checkpoint_id"]))
        what = f"hook, {hook.words}" if hook else "hook"
        for_what = f" for '{path_text(judged.path.name)}'" if judged else ""
        self._teller_of(action.run_id).tell(
            "action",
            f"{what}{for_what}: {'' if result.worked else 'failed: '}{result.words}",
            attempt=judged.attempt if judged else 0,
            about=("hook", action.key),
            checkpoint_id=str(action.detail["checkpoint_id"]),
            detail={"worked": result.worked, **result.detail},
        )
        if result.worked and "exit_code" in result.detail:
            last = self._journal.intend(action.run_id, WORKED, name, {})
            self._journal.done(last, {"at": time.time()})
        self._journal.done(action, {"worked": result.worked, "words": result.words})


def _looked(doing: Doing) -> HookResult | None:
    try:
        return doing.poll()
    except SentinelError as error:
        return HookResult.bad(str(error))


def _values(judged: Judged, found: Finding) -> dict[str, str]:
    message = found.message[:_MESSAGE_CHARACTERS].replace("\0", " ")
    return {
        "checkpoint": str(judged.path),
        "directory": str(judged.path.parent),
        "rule": found.rule,
        "run_id": judged.run_id,
        "step": "" if judged.step is None else str(judged.step),
        "message": message.encode("utf-8", "replace").decode("utf-8"),
    }


def _digest(hook: Hook) -> str:
    """Return a name of a hook: another one in its place is another hook."""
    return hashlib.blake2b(repr(hook).encode("utf-8", "replace"), digest_size=8).hexdigest()


def _number(action: Action, name: str) -> float:
    return float(str(action.detail[name]))


def _is_below(path: Path, place: Path | None) -> bool:
    return place is None or Path(os.path.realpath(path)).is_relative_to(os.path.realpath(place))
