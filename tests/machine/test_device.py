"""What drivers and processors say of themselves, as they print it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.machine.device import device_settings, gpu_of_line, gpus, processor, processor_of

INTEL = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8481C
flags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16 amx_int8
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd fphp i8mm bf16\n"
OLD = "model name\t: Intel(R) Core(TM) i5-4570\nflags\t\t: fpu sse4_2 avx2\n"


@pytest.mark.parametrize(
    ("line", "capability", "bf16", "fp8"),
    [
        ("NVIDIA H100 80GB HBM3, 9.0, 81559, 81004, 550.54.15", 9.0, True, True),
        ("NVIDIA GeForce RTX 4090, 8.9, 24564, 22000, 555.42", 8.9, True, True),
        ("NVIDIA A100-SXM4-40GB, 8.0, 40960, 40331, 535.104.05", 8.0, True, False),
        ("Tesla T4, 7.5, 15360, 14913, 535.104.05", 7.5, False, False),
        ("Tesla K80, [N/A], 11441, [N/A], 470.57", None, None, None),
        ("Some, comma, 8.6, 1, 1, 1", 8.6, True, False),
    ],
)
def test_a_gpu_is_what_its_driver_says(line, capability, bf16, fp8):
    """bf16 from Ampere on, fp8 from Ada on; what the driver does not tell is not guessed."""
    gpu = gpu_of_line(line)

    assert gpu is not None
    assert (gpu.capability, gpu.bf16, gpu.fp8) == (capability, bf16, fp8)


def test_memory_is_in_bytes():
    """The driver counts in MiB."""
    gpu = gpu_of_line("Tesla T4, 7.5, 15360, 14913, 535.104.05")

    assert gpu is not None
    assert (gpu.memory_bytes, gpu.free_bytes) == (15360 * 2**20, 14913 * 2**20)
    assert gpu.driver == "535.104.05"


@given(st.text())
def test_any_line_is_a_gpu_or_none(line):
    """A driver that answers with an error is no GPU."""
    gpu = gpu_of_line(line)

    assert gpu is None or gpu.name


@pytest.mark.parametrize(
    ("text", "name", "flags", "bf16"),
    [
        (INTEL, "8481C", {"amx_bf16", "avx512_bf16", "amx_int8", "avx2", "avx512f"}, True),
        (ARM, "", {"bf16", "fphp", "i8mm"}, True),
        (OLD, "i5-4570", {"avx2"}, False),
        ("", "", set(), None),
    ],
    ids=["intel", "arm", "old", "no-cpuinfo"],
)
def test_a_processor_is_what_the_kernel_says(text, name, flags, bf16):
    """Of its instructions only those that matter are told; no file means nothing is known."""
    found = processor_of(text)

    assert name in found.name
    assert (set(found.flags), found.bf16) == (flags, bf16)


def test_this_machine_answers():
    """The settings that a configuration is judged by name the device that a training would take."""
    settings = device_settings()

    assert settings["device.type"] == ("cuda" if gpus() else "cpu")
    assert settings["device.name"]
    assert processor().threads >= 1
