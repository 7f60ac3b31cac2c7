"""Every case of the corpus, one line a library that writes."""

from __future__ import annotations

from corpus import (
    accelerate_cases,
    base_cases,
    container_cases,
    diffusers_cases,
    file_twin_cases,
    gguf_cases,
    lycoris_cases,
    peft_cases,
    sharded_cases,
    trainer_cases,
    twin_cases,
)
from corpus.case import Case

CASES: tuple[Case, ...] = (
    *peft_cases.CASES,
    *lycoris_cases.CASES,
    *trainer_cases.CASES,
    *diffusers_cases.CASES,
    *accelerate_cases.CASES,
    *container_cases.CASES,
    *base_cases.CASES,
    *sharded_cases.CASES,
    *gguf_cases.CASES,
    *twin_cases.CASES,
    *file_twin_cases.CASES,
)
