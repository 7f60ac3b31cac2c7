"""What Transformers' Trainer saves: adapters and whole models, with every optimizer it offers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from corpus import official, peft_cases, training
from corpus.case import Case, Truth
from corpus.families import FAMILIES, Family
from corpus.models import seed_torch, tiny_llama

if TYPE_CHECKING:
    import numpy as np

LORA = FAMILIES["lora"]
WIDE = replace(LORA, options={"r": 128}, pairs=frozenset({(128, 8.0, 0.0625)}), settings={})
"""So wide that its matrices have 4096 elements: smaller ones no 8-bit optimizer packs."""

RUN: Mapping[str, Any] = MappingProxyType(
    {
        "layout": "transformers-trainer",
        "trainer": "transformers",
        "complete": True,
        "step": training.STEPS,
        "epoch": training.STEPS * training.BATCH / training.EXAMPLES,
        "updates_done": training.STEPS - 1,
    }
)
"""What every run of four steps tells. Its log proves one update less than were made."""

_BOTH = ("weights", "optimizer", "state")
_WRITER: Mapping[str, Any] = MappingProxyType(
    {"writer": "transformers", "needs": ("transformers", "peft"), "read": peft_cases.SAFETENSORS}
)


def truth_of(family: Family, **changes: Any) -> Truth:
    """What holds for an adapter that the Trainer saved with its optimizer."""
    known = {**RUN, "usable": _BOTH, "optimizer_parameters": 4}
    return peft_cases.truth_of(family, **{**known, **changes})


def _with_package(module: str, name: str, **options: object) -> training.Optimizer:
    return lambda parameters: getattr(importlib.import_module(module), name)(parameters, **options)


def _optimizers() -> Iterator[Case]:
    for name in ("adamw_torch", "adamw_torch_fused", "adafactor", "rmsprop", "adagrad"):
        yield _optimizer(name, LORA, optim=name)
    yield _optimizer("sgd", LORA, 0, optim="sgd")
    for name in ("adamw", "paged_adamw", "lion", "ademamix", "rmsprop_bnb"):
        given = {"adamw": "adamw_bnb_8bit"}.get(name, f"{name}_8bit")
        yield _optimizer(f"{name}-8bit", WIDE, needs=("bitsandbytes",), optim=given)
    yield _optimizer("lion-32bit", WIDE, needs=("bitsandbytes",), optim="lion_32bit")
    for bits in ("8bit", "4bit"):
        optim = f"adamw_torch_{bits}"
        yield _optimizer(f"torchao-{bits}", WIDE, needs=("torchao",), optim=optim)
    prodigy = _with_package("prodigyopt", "Prodigy")
    yield _optimizer("prodigy", LORA, needs=("prodigyopt",), optimizer=prodigy)
    plus = _with_package("prodigyplus", "ProdigyPlusScheduleFree")
    yield _optimizer("prodigy-plus", LORA, needs=("prodigyplus",), optimizer=plus)


def _optimizer(
    name: str,
    family: Family,
    parameters: int = 4,
    usable: tuple[str, ...] = _BOTH,
    needs: tuple[str, ...] = (),
    **options: Any,
) -> Case:
    return Case(
        id=f"trainer/{name}",
        writer="transformers",
        write=partial(training.adapter, family, **options),
        truth=truth_of(family, usable=usable, optimizer_parameters=parameters),
        needs=("transformers", "peft", *needs),
        read=peft_cases.SAFETENSORS,
    )


def _dead() -> Iterator[Case]:
    """Every family that begins without effect, under an optimizer that holds something else."""
    for name, family in FAMILIES.items():
        if family.idle is True:
            yield Case(
                id=f"trainer/{name}-dead",
                writer="transformers",
                write=partial(training.adapter, family, optimizer=training.without_the_adapter),
                truth=truth_of(
                    family,
                    verdict="faulty",
                    findings=frozenset({"dead-lora-up"}),
                    idle=True,
                    usable=("optimizer", "state"),
                    optimizer_parameters=0,
                ),
                needs=("transformers", "peft", *family.needs),
                fault="no effect after updates",
                read=peft_cases.SAFETENSORS,
                slow=name != "lora",
            )


def _half(name: str, optimizer: training.Optimizer | None, parameters: int, **options: Any) -> Case:
    """An adapter in fp16 whose updates all round to zero."""
    return Case(
        id=f"trainer/{name}",
        writer="transformers",
        write=partial(training.adapter, LORA, optimizer=optimizer, dtype="float16", **options),
        truth=truth_of(
            LORA,
            verdict="faulty",
            findings=frozenset({"dead-lora-up"}),
            idle=True,
            usable=("optimizer", "state"),
            optimizer_parameters=parameters,
            settings={"precision.adapter": "fp16"},
        ),
        needs=("transformers", "peft", "prodigyopt"),
        fault="no effect after updates",
        read=peft_cases.SAFETENSORS,
    )


def _whole(
    place: Path,
    rng: np.random.Generator,
    *,
    shard_size: str | None = None,
    dtype: str = "float32",
    **options: Any,
) -> Path:
    """Train all of a model."""
    torch = seed_torch(rng)
    model = tiny_llama().to(getattr(torch, dtype))
    if shard_size is not None:
        model.save_pretrained = partial(model.save_pretrained, max_shard_size=shard_size)
    return training.run(model, place, **options)


def _warming_up(step: int, place: Path, rng: np.random.Generator) -> Path:
    """Every step saved, the first made with a learning rate of zero."""
    warm = {"warmup_steps": 2, "lr_scheduler_type": "constant_with_warmup", "save_steps": 1}
    training.adapter(LORA, place, rng, **warm)
    return place / f"checkpoint-{step}"


def _warm_truth(step: int, updates_done: int | None) -> Truth:
    return truth_of(
        LORA,
        step=step,
        epoch=step * training.BATCH / training.EXAMPLES,
        updates_done=updates_done,
        idle=step == 1,
    )


def _model_saved(shard_size: str | None, place: Path, rng: np.random.Generator) -> Path:
    seed_torch(rng)
    options = {} if shard_size is None else {"max_shard_size": shard_size}
    tiny_llama(layers=2).save_pretrained(place, **options)
    return place


_MODEL: Mapping[str, Any] = MappingProxyType(
    {
        "writer": "transformers",
        "needs": ("transformers",),
        "read": official.safetensors,
    }
)
_WHOLE = Truth(**RUN, roles={"other": 12}, usable=_BOTH, optimizer_parameters=12)
_DIVERGED = frozenset({"nan-values", "optimizer-nan", "loss-zero"})

_Write = Callable[..., Path]

CASES: tuple[Case, ...] = (
    *_optimizers(),
    *_dead(),
    _half(
        "fp16-prodigy-dead", _with_package("prodigyopt", "Prodigy", eps=1e-4), 4, max_grad_norm=1e-3
    ),
    _half("fp16-sgd-dead", None, 0, optim="sgd", learning_rate=1e-7),
    Case(
        id="trainer/bf16-mixed",
        write=partial(training.adapter, LORA, bf16=True),
        truth=truth_of(LORA),
        **_WRITER,
    ),
    Case(
        id="trainer/save-only-model",
        write=partial(training.adapter, LORA, save_only_model=True),
        truth=truth_of(LORA, usable=("weights", "state"), optimizer_parameters=None),
        **_WRITER,
    ),
    *(
        Case(
            id=f"trainer/warm-up-{step}",
            write=partial(_warming_up, step),
            truth=_warm_truth(step, updates_done),
            others=3,
            **_WRITER,
        )
        for step, updates_done in ((1, 0), (2, 1), (4, 2))
    ),
    Case(
        id="trainer/diverged",
        write=partial(training.adapter, LORA, learning_rate=1e38),
        truth=truth_of(
            LORA,
            verdict="faulty",
            findings=_DIVERGED,
            usable=(),
        ),
        fault="NaN from a learning rate that is too high",
        **_WRITER,
    ),
    Case(
        id="trainer/fp16-prodigy-nan",
        write=partial(
            training.adapter,
            LORA,
            optimizer=_with_package("prodigyopt", "Prodigy"),
            dtype="float16",
        ),
        truth=truth_of(
            LORA,
            verdict="faulty",
            findings=_DIVERGED | {"optimizer-settings-nan", "fp16-lora-weights"},
            usable=(),
            settings={"precision.adapter": "fp16"},
        ),
        writer="transformers",
        needs=("transformers", "peft", "prodigyopt"),
        read=peft_cases.SAFETENSORS,
        fault="NaN from an eps that fp16 rounds to zero",
    ),
    Case(id="trainer/whole", write=_whole, truth=_WHOLE, **_MODEL),
    Case(
        id="trainer/whole-sharded",
        write=partial(_whole, shard_size="20KB"),
        truth=_WHOLE,
        **_MODEL,
    ),
    Case(id="trainer/whole-bf16", write=partial(_whole, dtype="bfloat16"), truth=_WHOLE, **_MODEL),
    Case(
        id="model/one-file",
        write=partial(_model_saved, None),
        truth=Truth(layout="transformers-model", roles={"other": 21}),
        **_MODEL,
    ),
    Case(
        id="model/shards",
        write=partial(_model_saved, "20KB"),
        truth=Truth(layout="transformers-model", complete=True, roles={"other": 21}),
        **_MODEL,
    ),
)
