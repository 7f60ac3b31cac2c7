"""Names, kinds of files and places that nobody expects: one clear sentence, and no waiting."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sentinel.formats.opening import discover, is_complete, is_whole, open_checkpoint

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has other names and kinds"),
    pytest.mark.timeout(60),
]

WEIGHTS = "adapter_model.safetensors"
NAMES = {
    "spaces": "two  words.safetensors",
    "a line feed": "two\nlines.safetensors",
    "an escape sequence": "\x1b[2J\x1b]0;owned\x07.safetensors",
    "eight bits of it": "\x9b2J.safetensors",
    "no text": os.fsdecode(b"\xff\xfe.safetensors"),
    "Polish and Chinese": "żółw-漢字.safetensors",
    "right to left": "\u202egnp.safetensors",
    "a leading dash": "-rf.safetensors",
    "255 bytes": "n" * 243 + ".safetensors",
    "markup": "[bold red]x[/].safetensors",
    "a percent sign": "%s%n{0}.safetensors",
    "only a suffix": ".safetensors",
}


def check(sentinel: Callable, *command: str | Path, codes: set[int]) -> str:
    """Run a command and return what it said: no traceback, and nothing that steers a terminal."""
    ran = sentinel(*command)
    assert ran.code in codes, ran
    assert "Traceback" not in ran.err, ran.err
    if "json" in command and ran.out:
        json.loads(ran.out)
    said = ran.out + ran.err
    harmful = {one for one in said if not one.isprintable() and one != "\n"}
    assert not harmful, harmful
    return str(said)


def test_files_of_any_name_are_judged(sentinel, write, adapter_bytes):
    for name in NAMES.values():
        write.file(name, adapter_bytes())

    said = check(sentinel, "scan", write.root, codes={0})
    assert said.count("\nsuspect") == len(NAMES) - 2  # the first has no line before it
    told = json.loads(check(sentinel, "scan", write.root, "--format", "json", codes={0}))
    assert told["summary"]["suspect"] == len(NAMES) - 1  # one is hidden


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_file_of_any_name_is_shown(sentinel, write, adapter_bytes, name):
    path = write.file(name, adapter_bytes())
    other = write.file("other/x.safetensors", adapter_bytes())

    check(sentinel, "show", "--meta", "--", path, codes={0})
    check(sentinel, "diff", "--", path, other, codes={0})
    path.write_bytes(path.read_bytes()[:-1])
    check(sentinel, "diff", "--", path, other, codes={2})


@pytest.mark.parametrize(
    "name", ["\x1b[2J", "a\nb", "\u202ex", "", "a" * 100_000, "[red]", "\x00", "é\u0301"]
)
def test_a_tensor_of_any_name_is_shown(sentinel, write, adapter_bytes, name):
    """However long it is, a verdict stays a line or two."""
    path = write.file("x.safetensors", adapter_bytes(name))

    check(sentinel, "show", "--tensors", "--modules", "--meta", path, codes={0})
    nan = adapter_bytes(name)[:-4] + b"\xff\xff\xff\xff"
    write.file("x.safetensors", nan)
    assert len(check(sentinel, "scan", path, codes={1})) < 10_000
    write.file("x.safetensors", adapter_bytes(name)[:-1])
    assert len(check(sentinel, "scan", path, codes={2})) < 10_000


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    # The name of a socket is short, so it is bound from where it lies.
    here = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": fifo,
    "a socket": unix_socket,
    "a directory": lambda path: path.mkdir(),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to a terminal": lambda path: path.symlink_to("/dev/tty"),
    "a link to the kernel": lambda path: path.symlink_to("/proc/self/mem"),
    "a link to the kernel's log": lambda path: path.symlink_to("/proc/kmsg"),
    "a link to the root": lambda path: path.symlink_to("/"),
    "an empty file": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(4096)),
    "a hole": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 40),
}
PLACES = (
    WEIGHTS,
    "adapter_config.json",
    "adapter_model.bin",
    "optimizer.pt",
    "trainer_state.json",
    "training_state.json",
    ".guard",
    "model.safetensors.index.json",
    "pytorch_lora_weights.safetensors",
    "sentinel_manifest.json",
    "random_states_0.pkl",
    "meta.json",
    "lone.npz",
)


@pytest.fixture
def odd(write):
    """Make a checkpoint with one odd thing in it."""

    def made(kind: str, place: str) -> Path:
        path = write.adapter("checkpoint-5", **{"checkpoint_manifest.json": {}})
        (path / place).unlink(missing_ok=True)
        try:
            KINDS[kind](path / place)
            os.utime(path / place, (1e9, 1e9), follow_symlinks=False)
        except PermissionError:
            pytest.skip("this system does not let us make one")
        return path

    return made


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_lies_under_the_name_of_the_weights_is_told(sentinel, odd, kind):
    """Nothing is waited for, and what is said is short."""
    path = odd(kind, WEIGHTS)

    assert len(check(sentinel, "scan", path, codes={2})) < 2_000
    check(sentinel, "show", path, codes={2})


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_lies_under_a_known_name_is_no_reason_to_wait(odd, kind):
    """Every question that anybody asks about a checkpoint is answered at once."""
    for place in PLACES:
        path = odd(kind, place)
        opened = open_checkpoint(path)
        assert opened.faults or place in {".guard", "lone.npz", "random_states_0.pkl", "meta.json"}
        for candidate in discover(path):
            is_complete(candidate)
            is_whole(candidate)
        assert open_checkpoint(path / place).faults or place == "meta.json"
        shutil.rmtree(path)
