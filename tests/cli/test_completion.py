"""What the Tab key offers: by real shells in a real terminal, and by click's own protocol."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if os.name != "posix":
    pytest.skip("shells of POSIX", allow_module_level=True)
pytest.importorskip("pyte")

from screens import DEADLINE_S, Terminal
from sentinel.cli.completion import SHELLS, VARIABLE
from sentinel.cli.formats import FORMS
from sentinel.cli.main import COMMANDS
from sentinel.rules.load import load_rules

HEAVY = ("numpy", "pyarrow", "duckdb", "rich", "pydantic", "yaml")
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
TAKE = {
    "bash": "PS1='ready$ '; source <(sentinel completion bash)\n",
    "zsh": "PS1='ready$ '; autoload -U compinit; compinit -u -D\n"
    "source <(sentinel completion zsh)\n",
    "fish": "function fish_prompt; echo 'ready$ '; end; sentinel completion fish | source\n",
}


def offered(place: Path, *words: str, more: str = "") -> list[tuple[str, str]]:
    """What is offered for the last of some words, as (kind, value), by fish's protocol."""
    program = (
        f"import sys; sys.argv[0] = 'sentinel'; from sentinel.cli.main import main\n{more}main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=place,
        env=os.environ
        | {VARIABLE: "fish_complete"}
        | {"COMP_WORDS": " ".join(["sentinel", *words[:-1]]), "COMP_CWORD": words[-1]},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    pairs = [line.partition(",") for line in done.stdout.splitlines()]
    return [(kind, value.split("\t")[0]) for kind, _, value in pairs]


def values(place: Path, *words: str) -> list[str]:
    return [value for kind, value in offered(place, *words) if kind == "plain"]


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which `sentinel` is this one."""
    programs = tmp_path / "bin"
    programs.mkdir()
    command = programs / "sentinel"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sentinel "$@"\n')
    command.chmod(0o755)
    return f"{programs}:{os.environ['PATH']}"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_real_shell_completes(shell, tmp_path, path):
    """Tab after the beginning of a command, a form and a rule finishes the word."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    words = START[shell]
    with Terminal(words, cwd=tmp_path, columns=100, PATH=path, HOME=str(tmp_path)) as terminal:
        terminal.type(TAKE[shell])
        terminal.until(lambda lines: any(line.startswith("ready$") for line in lines))
        for typed, finished in (
            ("sentinel docto\t", "sentinel doctor"),
            ("sentinel scan --format jun\t", "sentinel scan --format junit"),
            ("sentinel rules show dead-lora-d\t", "sentinel rules show dead-lora-down"),
        ):
            terminal.type(typed)
            terminal.until(lambda lines, said=finished: any(said in line for line in lines))
            terminal.type("\x15")  # takes back the line


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one_the_shell_can_read(sentinel, shell):
    """The shell's own parser takes it."""
    ran = sentinel("completion", shell)

    assert (ran.code, ran.err) == (0, "")
    assert VARIABLE in ran.out
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run(
        [shell, "-n"],
        input=ran.out,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_commands_forms_and_rules_are_offered(tmp_path):
    """Every command; every form; every rule of the catalogue; what begins so, not more."""
    assert values(tmp_path, "") == list(COMMANDS)
    assert values(tmp_path, "re") == [name for name in COMMANDS if name.startswith("re")]
    assert values(tmp_path, "scan", "--format", "") == list(FORMS)
    assert values(tmp_path, "scan", "--also", "s") == ["sarif="]
    assert values(tmp_path, "rules", "show", "") == sorted(rule.id for rule in load_rules())


def test_runs_of_the_log_are_offered(scanned, sentinel):
    """The ids of a health log, by what they begin with, and directories beside them."""
    told = sentinel("log", "--log", scanned / "log", "--format", "json").out
    ids = sorted(json.loads(line)["run"] for line in told.splitlines())

    assert values(scanned, "log", "--log", "log", "") == ids
    assert values(scanned, "log", "--log", "log", ids[0][:4]) == [ids[0]]
    assert ("dir", "") in offered(scanned, "log", "--log", "log", "")


def test_nothing_wrong_is_said_while_typing(tmp_path):
    """A broken settings file or a missing log offers less, and writes into nobody's prompt."""
    (tmp_path / "sentinel.yaml").write_text("policy: [\n")

    assert values(tmp_path, "log", "--log", "nowhere", "") == []


@pytest.mark.parametrize("words", [["sc"], ["scan", "--format", "s"], ["rules", "show", "dead"]])
def test_it_is_quick(tmp_path, words):
    """What only a scan needs is not imported while somebody waits for the Tab key."""
    tell = (
        "import atexit\n"
        f"atexit.register(lambda: print('plain,' + ' '.join(set({HEAVY!r}) & set(sys.modules))))\n"
    )

    *_, (_, imported) = offered(tmp_path, *words, more=tell)

    assert imported == ""


def test_after_two_dashes_come_files(tmp_path):
    """The trainer's own words are completed as after any command."""
    assert offered(tmp_path, "run", "--", "python", "tr") == [("file", "tr")]
