"""The trainings of the detection benchmark: what each is told, and what is known to be wrong.

A fault class is a row of the public threads that users wrote (the number in the class's comment),
not one of our rules; what a rule may be called when it catches it stands beside the class. Set A is
what thresholds were fixed on, set B (another model, other seeds, ranks, rates and optimizers) is
run once with them frozen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Fault:
    """A class of faults: how users tell it, where, and which findings count as having caught it."""

    told: str
    threads: tuple[str, ...]
    caught_by: frozenset[str]


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "trains nothing": Fault(
            "the file is there and does nothing: every lora_up is 0",
            ("Nerogar/OneTrainer#146", "ostris/ai-toolkit#925", "kohya-ss/sd-scripts#91"),
            frozenset({"dead-lora-up", "partly-dead-lora-up", "unchanged-checkpoint"}),
        ),
        "NaN": Fault(
            "loss nan or 0, weights NaN in fp16",
            ("huggingface/peft#1522", "kohya-ss/sd-scripts#1914", "hiyouga/LlamaFactory#2916"),
            frozenset({"nan-values", "inf-values", "fp16-adam-about-to-die", "loss-not-finite"}),
        ),
        "updates vanish": Fault(
            "half-precision weights hardly change",
            ("keras-team/keras-hub#2629", "pytorch/ao#1124", "kohya-ss/sd-scripts#1914"),
            frozenset(
                {
                    "stalled-elements",
                    "stalled-updates",
                    "unchanged-checkpoint",
                    "partly-dead-lora-up",
                    "tiny-updates",
                }
            ),
        ),
        "diverges": Fault(
            "loss rises, output is noise",
            ("axolotl-ai-cloud/axolotl#1310", "kohya-ss/sd-scripts#201"),
            frozenset({"norm-explosion", "nan-values", "inf-values", "loss-not-finite"}),
        ),
        "Adafactor scale": Fault(
            "Adafactor with scale_parameter: the learning rate is estimated far too low",
            ("Nerogar/OneTrainer#455",),
            frozenset({"adafactor-scale-parameter", "tiny-updates"}),
        ),
        "Prodigy stuck": Fault(
            "Prodigy never leaves d0: it was given a learning rate",
            ("kohya-ss/sd-scripts#1914", "Nerogar/OneTrainer#178"),
            frozenset({"prodigy-stuck", "tiny-updates", "dead-lora-up"}),
        ),
        "rate far too low": Fault(
            "it runs, and the result is the base model",
            ("kohya-ss/musubi-tuner#66",),
            frozenset({"tiny-updates"}),
        ),
    }
)


@dataclass(frozen=True)
class Case:
    """One training: its base, what the recipe says beyond the common part, and its fault."""

    name: str
    base: str
    fault: str | None
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class BaseModel:
    """A base: arguments of `sentinel_trainer.tiny_base`, and the text that adapters train on.

    Without arguments it is the MiniLM encoder of a package, and the task is to tell from which of
    some patterns of files a line is; ``train`` then names those, ``held_out`` is unused.
    """

    arguments: tuple[str, ...]
    train: tuple[str, ...]
    held_out: tuple[str, ...] = ()


BASES: Mapping[str, BaseModel] = MappingProxyType(
    {
        "a": BaseModel(
            ("--seed", "0"),
            ("python-stdlib:encodings/cp12*.py",),
            ("python-stdlib:encodings/cp424.py",),
        ),
        "b": BaseModel(
            ("--seed", "5", "--layers", "6", "--hidden", "96", "--text", "python-stdlib:[g-m]*.py"),
            ("python-stdlib:encodings/mac_*.py",),
            ("python-stdlib:encodings/koi8_r.py",),
        ),
        "minilm": BaseModel((), ("json/*.py", "email/*.py", "asyncio/*.py")),
    }
)


def cases(which: str) -> tuple[Case, ...]:
    """Return the cases of set "a" or "b"."""
    made = tuple(_set_a() if which == "a" else _set_b())
    names = [case.name for case in made]
    if len(set(names)) != len(names):
        twice = sorted(name for name in set(names) if names.count(name) > 1)
        message = f"cases of one name: {twice}"
        raise ValueError(message)
    return made


def _case(base: str, fault: str | None, optimizer: str, rate: float | None, **more: object) -> Case:
    """Return a case named after what it says."""
    settings: dict[str, object] = {"training.optimizer.name": optimizer}
    if rate is not None:
        settings["training.learning_rate"] = rate
    words = [optimizer, "auto" if rate is None else f"{rate:g}"]
    for name, value in more.items():
        key = _KEYS[name]
        settings[key] = value
        words.append(
            "+".join(f"{k}={v}" for k, v in value.items())
            if isinstance(value, dict)
            else f"{name}{value}"
            if isinstance(value, int)
            else str(value)
        )
    return Case(" ".join([base, *words]), base, fault, settings)


_KEYS = {
    "dtype": "adapter.dtype",
    "method": "adapter.method",
    "rank": "adapter.rank",
    "args": "training.optimizer.args",
    "seed": "training.seed",
    "scheduler": "training.scheduler",
    "warmup": "training.warmup_steps",
    "quantization": "base.quantization",
    "accumulation": "training.gradient_accumulation",
    "clip": "training.max_grad_norm",
    "modules": "adapter.target_modules",
}

_EPS = {"eps": 1e-4}
_PLUS = {"use_schedulefree": False}
_SCALE = {"scale_parameter": True}
_PLAIN = {"scale_parameter": False}
_RELATIVE = {"scale_parameter": False, "relative_step": True}
_RELATIVE_SCALE = {"scale_parameter": True, "relative_step": True}
_RELATIVE_WARM = {"scale_parameter": True, "relative_step": True, "warmup_init": True}


def _set_a() -> Iterator[Case]:
    # healthy twins: rates that train, in precisions that hold them
    for seed in (0, 1):
        for rate in (3e-4, 1e-3, 2e-3, 5e-3):
            yield _case("a", None, "adamw", rate, seed=seed)
        yield _case("a", None, "adamw-fused", 1e-3, dtype="bf16", seed=seed)
        yield _case("a", None, "adamw", 2e-3, dtype="bf16", seed=seed)
        yield _case("a", None, "adafactor", 1e-3, args=_PLAIN, seed=seed)
        yield _case("a", None, "adafactor", None, args=_RELATIVE, seed=seed)
        yield _case("a", None, "prodigy", 1.0, seed=seed, args={"d_coef": 0.5})
        yield _case("a", None, "prodigy-plus", 1.0, seed=seed, args=_PLUS)
        yield _case("a", None, "prodigy-plus", 1.0, seed=seed)
        yield _case("a", None, "adamw", 1e-3, method="dora", seed=seed)
        yield _case("a", None, "adafactor", 1e-3, args=_PLAIN, method="dora", seed=seed)
        yield _case("a", None, "adamw", 1e-3, quantization="nf4", seed=seed)
        yield _case("a", None, "adamw", 1e-3, scheduler="cosine", warmup=10, seed=seed)
        yield _case("a", None, "adamw", 1e-3, accumulation=4, seed=seed)
        yield _case("a", None, "adamw", 1e-3, rank=2, seed=seed)
        yield _case("a", None, "adamw", 1e-3, modules="all-linear", seed=seed)
    # the faults
    for seed in (0, 1):
        yield _case("a", "trains nothing", "prodigy-plus", 1.0, dtype="fp16", args=_PLUS, seed=seed)
        yield _case("a", "trains nothing", "adafactor", 1e-6, dtype="fp16", args=_SCALE, seed=seed)
        yield _case("a", "trains nothing", "adamw", 1e-10, dtype="fp16", args=_EPS, seed=seed)
        yield _case("a", "NaN", "adamw", 1e-3, dtype="fp16", seed=seed)
        yield _case("a", "NaN", "adamw", 1e-4, dtype="fp16", seed=seed)
        yield _case("a", "NaN", "adamw-fused", 1e-2, dtype="fp16", seed=seed)
        yield _case("a", "NaN", "adamw-fused", 1e-3, dtype="fp16", seed=seed)
        yield _case("a", "NaN", "prodigy", 1.0, dtype="fp16", seed=seed)
        yield _case("a", "updates vanish", "adamw", 1e-5, dtype="bf16", seed=seed)
        yield _case("a", "updates vanish", "adamw", 3e-6, dtype="bf16", seed=seed)
        yield _case("a", "diverges", "adamw", 3e-2, seed=seed)
        yield _case("a", "diverges", "adamw", 1e-1, seed=seed)
        yield _case("a", "diverges", "adamw", 1.0, seed=seed)
        yield _case("a", "Adafactor scale", "adafactor", 1e-3, args=_SCALE, seed=seed)
        yield _case("a", "Adafactor scale", "adafactor", 1e-4, args=_SCALE, seed=seed)
        yield _case("a", "Adafactor scale", "adafactor", None, args=_RELATIVE_SCALE, seed=seed)
        yield _case("a", "Adafactor scale", "adafactor", None, args=_RELATIVE_WARM, seed=seed)
        yield _case(
            "a", "Adafactor scale", "adafactor", 1e-3, args=_SCALE, method="dora", seed=seed
        )
        yield _case("a", "Prodigy stuck", "prodigy", 1e-4, seed=seed)
        yield _case("a", "Prodigy stuck", "prodigy-plus", 1e-4, args=_PLUS, seed=seed)
        yield _case("a", "rate far too low", "adamw", 1e-6, seed=seed)
        yield _case("a", "rate far too low", "adamw", 3e-6, seed=seed)


def _set_b() -> Iterator[Case]:
    for seed in (11, 12, 13):
        for rate in (5e-4, 1.5e-3, 3e-3):
            yield _case("b", None, "adamw", rate, rank=16, seed=seed)
            yield _case("b", None, "adamw-fused", rate, rank=4, seed=seed, modules="all-linear")
        yield _case("b", None, "adamw", 1.5e-3, dtype="bf16", rank=16, seed=seed)
        yield _case("b", None, "adafactor", 2e-3, args=_PLAIN, rank=16, seed=seed)
        yield _case("b", None, "adafactor", 2e-3, args=_PLAIN, dtype="bf16", rank=4, seed=seed)
        yield _case("b", None, "prodigy-plus", 1.0, rank=16, seed=seed, args=_PLUS)
        yield _case("b", None, "prodigy", 1.0, rank=4, seed=seed, args={"d_coef": 0.3})
        yield _case("b", None, "adamw", 1.5e-3, method="dora", rank=16, seed=seed)
        yield _case("b", None, "adamw", 1.5e-3, quantization="nf4", method="dora", seed=seed)
        yield _case("b", None, "adamw", 1.5e-3, scheduler="linear", warmup=5, rank=4, seed=seed)
        yield _case("b", None, "adamw", 1.5e-3, accumulation=2, rank=32, seed=seed)
    for seed in (11, 12, 13):
        # a real encoder, whose head is trained as a whole (modules_to_save)
        yield _case("minilm", None, "adamw", 1e-3, seed=seed)
        yield _case("minilm", None, "adamw-fused", 2e-3, dtype="bf16", seed=seed)
        yield _case("minilm", None, "adafactor", 1e-3, args=_PLAIN, seed=seed)
        yield _case("minilm", "NaN", "adamw", 1e-3, dtype="fp16", seed=seed)
        yield _case("minilm", "diverges", "adamw", 1e-1, seed=seed)
    for seed in (11, 12, 13):
        yield _case(
            "b", "trains nothing", "prodigy-plus", 1.0, dtype="fp16", rank=16, args=_PLUS, seed=seed
        )
        yield _case(
            "b", "trains nothing", "adafactor", 3e-7, dtype="fp16", rank=16, args=_SCALE, seed=seed
        )
        yield _case("b", "NaN", "adamw", 5e-4, dtype="fp16", rank=16, seed=seed)
        yield _case("b", "NaN", "adamw-fused", 3e-3, dtype="fp16", rank=16, seed=seed)
        yield _case("b", "NaN", "prodigy", 1.0, dtype="fp16", rank=4, seed=seed)
        yield _case("b", "NaN", "adamw", 5e-4, dtype="fp16", method="dora", seed=seed)
        yield _case("b", "updates vanish", "adamw-fused", 5e-6, dtype="bf16", rank=16, seed=seed)
        yield _case("b", "updates vanish", "adamw", 5e-6, dtype="bf16", method="dora", seed=seed)
        yield _case("b", "diverges", "adamw-fused", 5e-2, rank=16, seed=seed)
        yield _case("b", "diverges", "adamw", 3e-1, rank=4, seed=seed)
        yield _case("b", "Adafactor scale", "adafactor", 5e-4, args=_SCALE, rank=16, seed=seed)
        yield _case(
            "b",
            "Adafactor scale",
            "adafactor",
            None,
            args=_RELATIVE_SCALE,
            method="dora",
            seed=seed,
        )
        yield _case("b", "Prodigy stuck", "prodigy-plus", 3e-4, args=_PLUS, rank=16, seed=seed)
        yield _case("b", "Prodigy stuck", "prodigy", 1e-3, rank=4, seed=seed)
        yield _case("b", "rate far too low", "adamw-fused", 2e-6, rank=16, seed=seed)
