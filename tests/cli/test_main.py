"""The door of the house: help, version, and what becomes of a bug."""

from __future__ import annotations

import pytest

import sentinel as package
from sentinel.cli.main import COMMANDS


@pytest.mark.parametrize("ask", ["--help", "-h"])
def test_help_lists_every_command(sentinel, ask):
    """In the order in which one meets them, on standard output."""
    ran = sentinel(ask)

    assert (ran.code, ran.err) == (0, "")
    listed = ran.out.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in listed if line[2:3].strip()] == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps(sentinel, name):
    """With its usage, whatever else is missing."""
    ran = sentinel(name, "--help")

    assert ran.out.startswith(f"Usage: sentinel {name} ")
    assert ran.code == 0


@pytest.mark.parametrize("group", [[], ["rules"]])
def test_a_group_alone_shows_its_help(sentinel, group):
    """Someone who types no more wants to know what there is."""
    ran = sentinel(*group)

    assert "Commands:" in ran.out + ran.err


def test_version(sentinel):
    """As the package says it."""
    assert sentinel("--version").out == f"sentinel, version {package.__version__}\n"


def test_a_bug_says_that_it_is_one(sentinel, write, monkeypatch):
    """Nobody takes it for a finding: code 3, the traceback, and whom to tell."""
    write.trainer("checkpoint-20")

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("sentinel.scanning.conclude", broken)
    ran = sentinel("scan", ".")

    assert (ran.code, ran.out) == (3, "")
    assert "Traceback" in ran.err
    assert "this is a bug in sentinel" in ran.err.splitlines()[-1]
