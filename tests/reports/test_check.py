"""A configuration and a machine as people see them: at 80 columns, and in a pipe."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from sentinel.machine.device import gpu_of_line, processor_of
from sentinel.machine.doctor import Machine
from sentinel.machine.limits import Disk, WatchLimits
from sentinel.preflight import check
from sentinel.reports.check import render_check
from sentinel.reports.doctor import Diagnosis, doctor_to_json, render_doctor
from sentinel.rules.load import load_rules
from sentinel.verdict import Verdict

BAD = {
    "training_method": "LORA",
    "train_dtype": "BFLOAT_16",
    "lora_weight_dtype": "FLOAT_16",
    "base_model_name": "/models/" + "very/" * 20 + "deep",
    "learning_rate": 1.0,
    "optimizer": {"optimizer": "PRODIGY", "d0": 1e-6},
}
GPU = gpu_of_line("NVIDIA H200, 9.0, 143771, 143156, 580.159.04")
MACHINE = Machine(
    gpus=(GPU,) if GPU else (),
    processor=processor_of("model name: Some Processor\nflags: avx2 avx512_bf16\n"),
    python=Path("/trainer/bin/python"),
    python_version="3.12.3",
    versions={"torch": "2.13.0", "peft": "0.21.2"},
    places={"state": Path("/state")},
    disks={"state": Disk(Path("/"), 5 * 2**30, 10 * 2**30)},
    watches=WatchLimits(8192, 128),
    settings={},
)


def printed(render, *, width: int = 80, terminal: bool = True) -> str:
    """What a console of some width is given."""
    out = io.StringIO()
    render(Console(file=out, force_terminal=terminal, width=width, color_system=None))
    return out.getvalue()


@pytest.fixture
def checked(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(BAD))
    return check(path, rules=load_rules(), machine={"device.name": "NVIDIA H200"})


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_configuration_fits_the_terminal(checked, tmp_path, width):
    """Whatever a path is long, no line is longer than the terminal, and nothing is lost."""
    text = printed(lambda console: render_check(checked, console, tmp_path), width=width)

    assert max(map(len, text.splitlines())) <= width
    flat = "".join(text.split())
    assert "fp16-adapter-configured(critical)" in flat
    assert "very/" * 20 in flat
    assert "deviceNVIDIAH200" in flat


def test_a_configuration_is_one_line_in_a_pipe(checked, tmp_path):
    """`grep` finds verdict, file and rule together."""
    text = printed(lambda console: render_check(checked, console, tmp_path), terminal=False)

    assert [line for line in text.splitlines() if "fp16-adapter-configured" in line] == [
        line for line in text.splitlines() if line.startswith("faulty      config.json | ")
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_machine_fits_the_terminal(terminal):
    """Each device, library, place and limit, with what it means."""
    diagnosis = Diagnosis(MACHINE, Verdict("healthy", ()))
    text = printed(lambda console: render_doctor(diagnosis, console), terminal=terminal)
    flat = " ".join(text.split())

    assert not terminal or max(map(len, text.splitlines())) <= 80
    assert "NVIDIA H200, compute capability 9.0, 140.4 GiB, 139.8 GiB free, bf16, fp8" in flat
    assert "versions of /trainer/bin/python" in flat
    assert "/state (5.0 GiB free)" in flat
    assert "8192 directories, 128 instances, few: what cannot be watched is polled" in flat
    assert "no known problem" in flat


def test_a_machine_without_a_driver_says_so():
    """No GPU is not the same as none that was looked for."""
    bare = Machine(**{**{name: getattr(MACHINE, name) for name in MACHINE.__slots__}, "gpus": ()})
    text = printed(lambda console: render_doctor(Diagnosis(bare, Verdict("healthy", ())), console))

    assert "no NVIDIA driver answers" in text
    assert json.loads(doctor_to_json(Diagnosis(bare, Verdict("healthy", ()))))["gpus"] == []
