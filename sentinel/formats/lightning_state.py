"""What PyTorch Lightning writes beside the weights: progress, hyper-parameters, scaler, versions.

Source: `dump_checkpoint` in
src/lightning/pytorch/trainer/connectors/checkpoint_connector.py of
https://github.com/Lightning-AI/pytorch-lightning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sentinel.checkpoint import OptimizerState
from sentinel.formats.optimizer_state import merged, optimizer_state_of
from sentinel.formats.scalars import as_count, as_text, brief
from sentinel.formats.settings import Setting, flatten

VERSION = "pytorch-lightning_version"

_SCALERS = ("MixedPrecision", "native_amp_scaling_state")
"""Keys of a loss scaler's state, by now and before 1.6: only fp16 needs one."""

Tree = Mapping[object, object]


def is_lightning(tree: object) -> bool:
    """Tell whether a saved tree is a checkpoint of Lightning's."""
    return isinstance(tree, dict) and VERSION in tree


def step_of_tree(tree: Tree) -> int | None:
    """Return how many optimizer steps were made."""
    return as_count(tree.get("global_step"))


def epoch_of_tree(tree: Tree) -> float | None:
    """Return the epoch, counted from 0."""
    epoch = as_count(tree.get("epoch"))
    return None if epoch is None else float(epoch)


def updates_of(tree: Tree, optimizer: OptimizerState | None) -> int | None:
    """Return how many steps had a learning rate above zero, None where that is not known.

    A schedule may begin at zero, so its first step does not count; a scaler may have skipped
    any step.
    """
    steps = step_of_tree(tree)
    rates = [group.settings.get("lr") for group in optimizer.groups] if optimizer else []
    known = [rate for rate in rates if isinstance(rate, int | float) and rate > 0]
    if not steps or not known or any(name in tree for name in _SCALERS):
        return 0 if steps == 0 else None
    return steps - 1 if tree.get("lr_schedulers") else steps


def optimizer_of_tree(tree: Tree, member: str) -> OptimizerState | None:
    """Return the states of all optimizers as one."""
    states = tree.get("optimizer_states")
    found = (
        optimizer_state_of(state, member) for state in (states if isinstance(states, list) else ())
    )
    return merged(state for state in found if state is not None)


def settings_of_tree(tree: Tree) -> dict[str, Setting]:
    """Return what the tree tells about the training, by dotted name."""
    version = as_text(tree.get(VERSION))
    found: dict[str, Setting] = {} if version is None else {"versions.lightning": version}
    if any(name in tree for name in _SCALERS):
        found["precision.mixed"] = "fp16"
    return {**flatten("hyper_parameters", dict(_plain(tree.get("hyper_parameters")))), **found}


def _plain(value: object) -> Iterator[tuple[str, object]]:
    """Yield the settings of a dictionary that JSON could spell too."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(inner, dict):
            yield brief(key), dict(_plain(inner))
        elif isinstance(inner, list | tuple):
            items = [one for one in inner if isinstance(one, str | int | float)]
            if len(items) == len(inner):
                yield brief(key), items
        elif isinstance(inner, str | int | float):
            yield brief(key), inner
