"""What the trainers call the numbers that the rules ask for.

Sources: Transformers' `rewrite_logs`, OneTrainer's GenericTrainer.py and BaseModelSetup.py,
sd-scripts' train_network.py (musubi-tuner's is alike), LLaMA-Factory's callbacks.py, SimpleTuner's
trainer.py, ai-toolkit's BaseSDTrainProcess.py, diffusers' training scripts, and Lightning's
LearningRateMonitor.
"""

from __future__ import annotations

from collections.abc import Iterable

from sentinel.formats.logs.entry import Entry

TAGS: dict[str, tuple[str, ...]] = {
    "loss": (
        "loss",
        "train/loss",
        "loss/train_step",
        "loss/current",
        "loss/train",
        "training/loss",
        "train_loss_step",
        "optimization_loss",
        "train_loss",
        "loss/average",
        "smooth_loss/train_step",
    ),
    "eval_loss": (
        "eval_loss",
        "eval/loss",
        "val_loss",
        "val/loss",
        "validation_loss",
        "loss/validation_step/total_average",
        "loss/validation/step_average",
    ),
    "grad_norm": ("grad_norm", "train/grad_norm"),
    "learning_rate": ("learning_rate", "train/learning_rate", "lr", "train/lr"),
}
"""A log's name for a number is the first of these that it holds: averages come last, because they
hide what happened at one step. sd-scripts' `loss/epoch_average` counts epochs, not steps."""

RATE_PREFIXES = ("lr/", "lr-")
"""One rate a group of parameters: the largest counts, for a step with it changes something."""

_NOT_RATES = ("lr/d*lr", "lr-momentum")
_KNOWN = {tag for tags in TAGS.values() for tag in tags}


def is_known(tag: str) -> bool:
    """Tell whether a trainer's name for a number is one of those above."""
    return tag in _KNOWN or _is_group_rate(tag)


def unified(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the known entries of one log under the house's names, in the log's order."""
    known = [entry for entry in entries if is_known(entry.name)]
    present = {entry.name for entry in known}
    names = {
        tag: name
        for name, tags in TAGS.items()
        for tag in [next((tag for tag in tags if tag in present), None)]
        if tag is not None
    }
    found = [
        Entry(entry.step, names[entry.name], entry.value, entry.at_s)
        if entry.name in names
        else entry
        for entry in known
        if entry.name in names or _is_group_rate(entry.name)
    ]
    if "learning_rate" in names.values():
        return tuple(entry for entry in found if entry.name in TAGS)
    return tuple(_largest_rates(found))


def _is_group_rate(tag: str) -> bool:
    return tag.startswith(RATE_PREFIXES) and not tag.startswith(_NOT_RATES)


def _largest_rates(entries: Iterable[Entry]) -> Iterable[Entry]:
    """Put one entry in the place of neighbours that are the rates of one step."""
    largest: Entry | None = None
    for entry in entries:
        if entry.name in TAGS:
            yield from () if largest is None else (largest,)
            largest = None
            yield entry
            continue
        if largest is not None and largest.step != entry.step:
            yield largest
            largest = None
        value = entry.value if largest is None else max(largest.value, entry.value)
        largest = Entry(entry.step, "learning_rate", value, entry.at_s)
    if largest is not None:
        yield largest
