"""The faulty twins whose weights suffered: their values, their file, its end."""

from __future__ import annotations

from corpus import damage
from corpus.case import Case
from corpus.twins import (
    ADAPTER,
    DOWN,
    FLUX,
    RUN,
    SCRIPT,
    UP,
    WIDE,
    of_one_file,
    of_values,
    slow,
    twin,
)

CASES: tuple[Case, ...] = (
    *of_one_file("peft/lora", ADAPTER),
    *slow(of_one_file("lycoris/locon", "", layout="unknown")),
    *slow(of_one_file("diffusers/flux", FLUX)),
    *slow(of_values("peft/lora", ADAPTER, f"_proj{UP}", f"_proj{DOWN}")),
    *of_values(RUN, ADAPTER, f"_proj{UP}", f"_proj{DOWN}"),
    *of_values(SCRIPT, FLUX, UP, DOWN),
    # -- written to a part --
    twin(
        WIDE,
        "tail",
        "zero-filled tail",
        damage.zero_tail(ADAPTER),
        "zero-filled-tail partly-dead-lora-up",
        "faulty",
        idle=None,
    ),
    twin(
        WIDE,
        "laid-out",
        "never filled",
        damage.zeros_behind_the_header(ADAPTER),
        "dead-lora-up dead-lora-down",
        "faulty",
        idle=True,
    ),
    twin(
        RUN,
        "zero-down",
        "lost values",
        damage.set_to_zero(ADAPTER, "lora_A"),
        "dead-lora-down",
        "faulty",
        idle=True,
    ),
    twin(
        RUN,
        "zero-up",
        "no effect after updates",
        damage.set_to_zero(ADAPTER, "lora_B"),
        "dead-lora-up",
        "faulty",
        idle=True,
    ),
    twin(
        RUN,
        "part-zero",
        "a part without effect",
        damage.set_to_zero(ADAPTER, "v_proj.lora_B"),
        "partly-dead-lora-up",
        "suspect",
        idle=None,
        usable=("weights", "optimizer", "state"),
    ),
)
