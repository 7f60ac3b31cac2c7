"""The faulty twins: a case that was written well, and one thing that happened to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from corpus import (
    accelerate_cases,
    container_cases,
    damage,
    diffusers_cases,
    gguf_cases,
    lycoris_cases,
    peft_cases,
    sharded_cases,
    trainer_cases,
)
from corpus.case import Case
from corpus.damage import Damage

ADAPTER = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"
FLUX = diffusers_cases.FILE
SHARD = "model-00002-of-00004.safetensors"

HOSTS: Mapping[str, Case] = MappingProxyType(
    {
        case.id: case
        for case in (
            *peft_cases.CASES,
            *lycoris_cases.CASES,
            *trainer_cases.CASES,
            *diffusers_cases.CASES,
            *accelerate_cases.CASES,
            *container_cases.CASES,
            *sharded_cases.CASES,
            *gguf_cases.CASES,
        )
    }
)

NO_WEIGHTS: Mapping[str, Any] = MappingProxyType(
    {
        "roles": {},
        "family": None,
        "modules": frozenset(),
        "pairs": frozenset(),
        "idle": None,
        "usable": (),
        "settings": {},
    }
)
"""What is left to say when the file of the weights cannot be read."""


def twin(  # noqa: PLR0917 - the columns of the table below
    host: str,
    name: str,
    fault: str,
    apply: Damage,
    findings: str,
    verdict: str,
    **changes: Any,
) -> Case:
    """Return a case that is another one, damaged.

    ``findings`` are the rules' ids, with blanks between. What an official reader cannot read, or
    does not refuse, is compared with none.
    """
    written = HOSTS[host]
    is_refused = verdict == "unreadable"
    read = None if is_refused else written.read

    def write(place: Path, rng: np.random.Generator) -> Path:
        path = written.write(place, rng)
        apply(path)
        return path

    known: dict[str, Any] = {"verdict": verdict, "findings": frozenset(findings.split())}
    if verdict == "faulty":
        known["usable"] = tuple(one for one in written.truth.usable if one != "weights")
    truth = replace(written.truth, **{**known, **changes})
    return replace(
        written,
        id=f"{host}-{name}",
        write=write,
        truth=truth,
        fault=fault,
        read=read,
    )


def slow(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    """Return cases that another host's twins stand for in the quick tests."""
    return tuple(replace(case, slow=True) for case in cases)


def of_one_file(host: str, file: str, **changes: Any) -> tuple[Case, ...]:
    """What can happen to any safetensors file that holds all of the weights."""
    malformed, truncated = "malformed-file", "truncated-file"
    table = (
        ("half", "truncated", damage.cut(file), truncated),
        ("nothing", "truncated", damage.cut_to_nothing(file), truncated),
        ("zeros", "never filled", damage.zeros_from_the_start(file), truncated),
        ("more", "bytes behind the end", damage.more_behind(file), malformed),
        ("lfs", "another file", damage.replaced(file, damage.LFS_POINTER), malformed),
        ("page", "another file", damage.replaced(file, damage.ERROR_PAGE), malformed),
        ("torch", "another file", damage.torch_under_its_name(file), malformed),
        ("twice", "duplicate keys", damage.header(file, damage.first_key_twice), malformed),
        ("beyond", "wild offsets", damage.header(file, damage.offsets_beyond), malformed),
        ("overlap", "wild offsets", damage.header(file, damage.overlapping), malformed),
        ("long", "wild lengths", damage.header_length(file, 2**63 - 1), malformed),
    )
    return tuple(
        twin(host, name, fault, apply, finding, "unreadable", **{**NO_WEIGHTS, **changes})
        for name, fault, apply, finding in table
    )


def of_values(host: str, file: str, up: str, down: str) -> tuple[Case, ...]:
    """What can happen to the values of an adapter whose file is whole.

    ``up`` and ``down`` end the keys of its matrices.
    """
    half = damage.cast(file, f"v{up}", "float16")
    return (
        twin(host, "nan", "NaN", damage.value(file, up, np.nan), "nan-values", "faulty"),
        twin(host, "inf", "Inf", damage.value(file, down, np.inf), "inf-values", "faulty"),
        twin(host, "mixed", "mixed dtypes", half, "mixed-dtypes", "suspect", settings={}),
        twin(
            host,
            "no-tensors",
            "an empty adapter",
            damage.without_tensors(file),
            "empty-checkpoint",
            "faulty",
            **NO_WEIGHTS,
        ),
        twin(
            host,
            "placeholders",
            "an empty adapter",
            damage.emptied(file),
            "empty-values",
            "faulty",
            pairs=frozenset({(0, None, None)}),
            idle=None,
        ),
    )


UP, DOWN = ".lora_B.weight", ".lora_A.weight"
OPTIMIZER = "optimizer.pt"
STATE = "trainer_state.json"
RUN = "trainer/adamw_torch"
SHARDED = "trainer/whole-sharded"
SCRIPT = "diffusers/script"
WIDE = "trainer/adamw-8bit"
UNDESCRIBED: Mapping[str, Any] = MappingProxyType(
    {"pairs": frozenset({(4, None, 1.0)}), "settings": {}}
)
STATELESS: Mapping[str, Any] = MappingProxyType(
    {"complete": False, "epoch": None, "usable": ("weights", "optimizer")}
)
