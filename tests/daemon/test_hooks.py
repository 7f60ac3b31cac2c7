"""What must hold of hooks: `sentinel watch` acts on a training only as sentinel.yaml says.

Real commands, real processes, real kills.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from safetensors.numpy import load, save_file

from sentinel.daemon.hook_pid import named_process
from sentinel.daemon.process import identify
from sentinel.errors import TrainerError
from sentinel.supervision import Hook

pytestmark = pytest.mark.skipif(os.name != "posix", reason="hooks are POSIX only")

PROBE = Path(__file__).parent / "programs" / "hook_probe.py"
COMMITS = 16
"""More than the writes of a watch that fires one hook."""

TRAINER = """
import os, signal, subprocess, sys
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    below = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()", "a_worker"])
    print(below.pid)
print("ready", flush=True)
signal.pause()
"""


@dataclass
class Place:
    """A bench with hooks: what they were called with, and the watch that calls them."""

    bench: object
    settings: dict = field(default_factory=dict)

    @property
    def calls(self) -> list[dict]:
        file = self.bench.place / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def probe(self, *words: str, how: str = "ok") -> list[str]:
        return [sys.executable, str(PROBE), str(self.bench.place / "calls"), how, *words]

    def arguments(self, *hooks: dict, options: tuple[str, ...] = ("--once",)) -> list[str]:
        config = self.bench.place / "hooks.yaml"
        settings = {"settle_s": 0.1, "torn_after_s": 0.3, "hooks": list(hooks), **self.settings}
        config.write_text(json.dumps(settings), encoding="utf-8")
        state = ("--state", str(self.bench.state))
        return ["watch", "--config", str(config), *state, *options, str(self.bench.out)]

    def watch(self, *hooks: dict, options: tuple[str, ...] = ("--once",), **kill: object):
        return self.bench.run(*self.arguments(*hooks, options=options), **kill)

    def events(self) -> list:
        return [event for event in self.bench.log().events if event.message.startswith("hook")]


@pytest.fixture
def place(bench) -> Place:
    return Place(bench)


@pytest.fixture
def trainer(tmp_path):
    """Start a process that is no child of sentinel's; none is left at the end."""
    started = []

    def start(*words: str, name: str = "train.py") -> subprocess.Popen:
        (tmp_path / name).write_text(TRAINER)
        process = subprocess.Popen(
            [sys.executable, str(tmp_path / name), *words], stdout=subprocess.PIPE, text=True
        )
        said = []
        while "ready\n" not in said:
            said.append(process.stdout.readline())
        process.worker = int(said[0]) if "stubborn" in words else None
        started.append(process)
        (tmp_path / "bench").mkdir(exist_ok=True)
        (tmp_path / "bench" / "train.pid").write_text(f"{process.pid}\n")
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(30)
        process.stdout.close()


# -- commands ----------------------------------------------------------------------------------


def test_a_command_gets_its_words_whole_and_once(place, saves):
    """No shell reads a name; each faulty checkpoint fires once, a healthy one never."""
    odd = "run $(touch pwned); 'x' --flag"
    saves.folder(place.bench.out / odd / "checkpoint-10", 10)
    faulty = saves.folder(place.bench.out / odd / "checkpoint-20", 20, nan=True)
    words = ("{checkpoint}", "{step}", "--why={rule}", "{run_id}", "{directory}", "$HOME", "{}")
    hook = {"command": place.probe(*words)}

    first = place.watch(hook)
    second = place.watch(hook)

    assert (first.code, second.code) == (1, 0), first.err
    (call,) = place.calls
    run_id = place.bench.run_id
    assert call["words"] == [
        *(str(faulty), "20", "--why=nan-values", run_id, str(faulty.parent), "$HOME", "{}"),
    ]
    environment = call["environment"]
    assert environment["SENTINEL_CHECKPOINT"] == str(faulty)
    assert (environment["SENTINEL_RULE"], environment["SENTINEL_STEP"]) == ("nan-values", "20")
    assert "NaN" in environment["SENTINEL_MESSAGE"]
    assert not (place.bench.place / "pwned").exists()
    (event,) = place.events()
    assert "ended with code 0" in event.message
    assert event.detail["exit_code"] == 0
    assert event.detail["output"] == "first line\nlast line\n"
    assert event.message in first.out


@pytest.mark.parametrize(
    ("settings", "options", "fired"),
    [
        pytest.param({}, ("--once",), 1, marks=pytest.mark.slow),
        ({"policy": "report"}, ("--once",), 0),
        ({}, ("--once", "--policy", "report"), 0),
        pytest.param(
            *({"policy": "report"}, ("--once", "--policy", "auto"), 1), marks=pytest.mark.slow
        ),
        pytest.param({"policy": "stop"}, ("--once",), 1, marks=pytest.mark.slow),
    ],
)
def test_report_never_acts(place, saves, settings, options, fired):
    """Under `policy: report`, in the file or on the command line, no hook fires."""
    saves.folder(place.bench.out / "checkpoint-10", 10, nan=True)
    place.settings = settings

    place.watch({"command": place.probe()}, options=options)

    assert len(place.calls) == fired


def test_a_warning_fires_where_the_user_names_its_rule(place, saves):
    """Only certain faults act by themselves; `act_on` adds what the user trusts."""
    tensors = load(saves.single(10))
    other = {name.replace("_a.", "_b."): value for name, value in tensors.items()}
    place.bench.out.mkdir()
    save_file(
        tensors | {name: value.astype("f2") for name, value in other.items()},
        place.bench.out / "cat-step00000010.safetensors",
        {"ss_network_module": "networks.lora", "ss_steps": "10"},
    )
    hook = {"command": place.probe("{rule}")}
    place.watch(hook)
    unasked = place.calls

    place.settings = {"act_on": ["mixed-dtypes"]}
    place.watch(hook)

    assert unasked == []
    assert [call["words"] for call in place.calls] == [["mixed-dtypes"]]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        pytest.param(
            *("fail", "failed: ended with code 3, saying: last line"), marks=pytest.mark.slow
        ),
        ("hang", "failed: was still running after 0.5 s and was ended"),
        ("missing", "failed: command '/no/such/program': was not found"),
    ],
)
def test_a_hook_that_does_not_work(place, saves, how, said):
    """It is one clear event and harms nothing: all checkpoints get their verdicts."""
    saves.folder(place.bench.out / "checkpoint-10", 10, nan=True)
    saves.folder(place.bench.out / "other" / "checkpoint-10", 10)
    words = ["/no/such/program"] if how == "missing" else place.probe(how=how)

    ran = place.watch({"command": words, "timeout_s": 0.5})
    again = place.watch({"command": words, "timeout_s": 0.5})

    assert (ran.code, again.code) == (1, 0), ran.err
    lines = [line for line in ran.out.splitlines() if "hook, command" in line]
    assert len(lines) == 1
    assert said in lines[0]
    assert "hook" not in again.out
    assert len(place.calls) == (how != "missing")
    assert "other/checkpoint-10" in ran.out
    assert not [one for one in psutil.process_iter() if str(PROBE) in " ".join(_words(one))]


def test_a_job_that_is_being_stopped_is_not_hit_twice(place, saves):
    """What a training writes on its way out must not requeue the job that was just requeued."""
    hook = {"command": place.probe("{step}")}
    saves.folder(place.bench.out / "checkpoint-10", 10, nan=True)
    place.watch(hook)
    saves.folder(place.bench.out / "checkpoint-20", 20, nan=True)
    ran = place.watch(hook)

    assert [call["words"] for call in place.calls] == [["10"]]
    assert "was not run again" in ran.out

    place.watch({**hook, "again_after_s": 0.001})
    saves.folder(place.bench.out / "checkpoint-30", 30, nan=True)
    place.watch({**hook, "again_after_s": 0.001})

    assert "30" in [call["words"][0] for call in place.calls]


def test_old_and_foreign_checkpoints_fire_nothing(place, saves):
    """One of last week says nothing of what runs now, one elsewhere is another's."""
    old = saves.folder(place.bench.out / "a" / "checkpoint-10", 10, nan=True)
    for path in (*old.iterdir(), old):
        os.utime(path, (time.time() - 90_000,) * 2)
    saves.folder(place.bench.out / "b" / "checkpoint-10", 10, nan=True)
    saves.folder(place.bench.out / "c" / "checkpoint-10", 10, nan=True)

    ran = place.watch(
        {"command": place.probe("{directory}"), "below": str(place.bench.out / "a")},
        {"command": place.probe("{directory}"), "below": "out/b"},
    )

    assert ran.code == 1
    assert [call["words"] for call in place.calls] == [[str(place.bench.out / "b")]]


def test_judging_goes_on_while_a_hook_works(place, saves):
    """A slow command keeps no checkpoint waiting, and the end waits for the command."""
    process = place.bench.start(*place.arguments({"command": place.probe(how="wait")}, options=()))
    saves.folder(place.bench.out / "checkpoint-10", 10, nan=True)
    _until(process, "checkpoint-10")
    saves.folder(place.bench.out / "checkpoint-20", 20)
    _until(process, "checkpoint-20")
    process.send_signal(signal.SIGTERM)
    (place.bench.place / "calls.go").touch()
    said = process.communicate(timeout=60)[0]

    assert process.returncode == 0
    assert "hook, command" in said
    assert "ended with code 0" in said


@pytest.mark.parametrize(
    ("number", "when"),
    [
        pytest.param(
            number, when, marks=[] if (number, when) == (6, "after") else [pytest.mark.slow]
        )
        for when in ("before", "after")
        for number in range(1, COMMITS + 1)
    ],
)
def test_a_killed_watch_neither_loses_nor_repeats_a_command(place, saves, number, when):
    """Killed at any write and started again: the command ran once, or it is said that it may."""
    saves.folder(place.bench.out / "checkpoint-10", 10, nan=True)
    hook = {"command": place.probe()}
    killed = place.watch(hook, kill_at=number, when=when)
    if killed.code == 1:
        pytest.skip(f"the watch has fewer than {number} commits")
    place.watch(hook)
    third = place.watch(hook)

    assert "hook" not in third.out
    (event,) = place.events()
    unknown = "is not known" in event.message
    assert len(place.calls) == 1 or (unknown and place.calls == [])
    assert unknown or "ended with code 0" in event.message


# -- pid files ---------------------------------------------------------------------------------


def _pid_hook(**more: object) -> dict:
    return {"pid_file": "train.pid", "process": "train.py", **more}


def test_a_trainer_is_asked_to_end(place, saves, trainer):
    """SIGTERM to the process in the pid file, and to no other."""
    other = trainer(name="other.py")
    process = trainer()
    saves.folder(place.bench.out / "checkpoint-10", 10, nan=True)

    ran = place.watch(_pid_hook())

    assert process.wait(30) == -signal.SIGTERM
    assert other.poll() is None
    assert f"process {process.pid} ended by SIGTERM" in ran.out


def test_a_trainer_that_ignores_sigterm(place, saves, trainer):
    """Without `kill_after_s` that is said; with it SIGKILL ends it and what is below it."""
    process = trainer("stubborn")
    saves.folder(place.bench.out / "checkpoint-10", 10, nan=True)
    asked = place.watch(_pid_hook(timeout_s=0.3))
    alive = process.poll() is None

    killed = place.watch(_pid_hook(kill_after_s=0.3))

    assert alive
    assert "is still there 0.3 s after SIGTERM; kill_after_s would end it" in asked.out
    assert process.wait(30) == -signal.SIGKILL
    assert f"process {process.pid} ended by SIGKILL" in killed.out
    assert not psutil.pid_exists(process.worker) or _is_zombie(process.worker)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("reused", "began after the file was written"),
        ("later", "began after the checkpoint was written"),
        ("another", "which is no 'train_model.py'"),
        ("sentinel", "is sentinel itself or runs it"),
        ("gone", "is not there any more"),
        ("no file", "no such file or directory"),
        ("directory", "is no regular file"),
        ("pipe", "is no regular file"),
        ("garbage", "holds no pid"),
        ("zero", "holds no pid"),
        ("everyone", "holds no pid"),
        ("huge", "holds no pid"),
    ],
)
def test_a_process_that_cannot_be_the_trainer_is_not_hit(tmp_path, trainer, what, said):
    """A pid that was given again, a wrong file, a wrong process: said, and nobody is signalled."""
    process = trainer()
    file = tmp_path / "bench" / "train.pid"
    began_s = psutil.Process(process.pid).create_time()
    written_s, word = time.time(), "train.py"
    texts = {"garbage": "train", "zero": "0", "everyone": "-1", "huge": "9" * 500}
    if what == "reused":
        os.utime(file, (began_s - 10,) * 2)
    elif what == "later":
        written_s = began_s - 10
    elif what == "another":
        word = "train_model.py"
    elif what == "sentinel":
        file.write_text(str(os.getppid()))
        word = ""
    elif what == "gone":
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait(30)
        file.write_text(str(ended.pid))
    elif what in ("no file", "directory"):
        file.unlink()
        if what == "directory":
            file.mkdir()
    elif what == "pipe":
        file.unlink()
        os.mkfifo(file)
    else:
        file.write_text(texts[what])
    hook = Hook.model_construct(pid_file=file, process=word)

    with pytest.raises(TrainerError, match=said):
        named_process(hook, written_s)


def test_the_trainer_is_known_by_its_pid_file(tmp_path, trainer):
    """The right one is found also by a file with more lines, and by its own start."""
    process = trainer()
    file = tmp_path / "bench" / "train.pid"
    file.write_text(f"  {process.pid}\nlocalhost\n")

    found = named_process(Hook(pid_file=file, process="train.py"), time.time())

    assert found == identify(psutil.Process(process.pid))


def test_a_refused_process_is_one_event(place, saves, trainer):
    """The watch goes on, and the process lives."""
    process = trainer(name="another.py")
    saves.folder(place.bench.out / "checkpoint-10", 10, nan=True)

    ran = place.watch(_pid_hook())

    assert ran.code == 1, ran.err
    (event,) = place.events()
    assert "which is no 'train.py'" in event.message
    assert not event.detail["worked"]
    assert process.poll() is None


def test_a_kill_between_the_intent_and_the_signal(place, saves, trainer):
    """The process is known by its start from then on, and is stopped by the next watch."""
    process = trainer()
    saves.folder(place.bench.out / "checkpoint-10", 10, nan=True)
    for number in range(4, COMMITS):
        shutil.rmtree(place.bench.state, ignore_errors=True)
        place.watch(_pid_hook(), kill_at=number)
        if _begun(place):
            break
    assert process.poll() is None

    place.watch(_pid_hook())

    assert process.wait(30) == -signal.SIGTERM
    assert len(place.events()) == 1


def _begun(place) -> bool:
    journal = place.bench.journal()
    return any(journal.open_actions(run_id, "hook-begun") for run_id in journal.runs())


def _until(process, word):
    said = []
    for line in process.stdout:
        said.append(line)
        if word in line:
            return
    pytest.fail(f"it ended without '{word}':\n{''.join(said)}")


def _words(process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
