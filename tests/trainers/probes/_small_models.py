"""Models of a few numbers whose classes and paths are named as a trainer looks for them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

Plan = Mapping[str, object]


class Chain(torch.nn.Module):
    """Adds the mean of every child's output, so that every parameter has a gradient."""

    dtype = torch.float32
    device = torch.device("cpu")

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the inputs plus one number of each child."""
        means = [child(inputs).float().mean() for child in self.children()]
        return inputs + sum(means)

    def __getattr__(self, name: str) -> object:
        """Answer the switches that trainers set on their models: they change nothing here."""
        if name.startswith(("enable_", "set_", "prepare_", "move_", "switch_")):
            return lambda *_arguments, **_named: None
        return super().__getattr__(name)


def model(kind: str, plan: Plan) -> torch.nn.Module:
    """Build a module of a class of this name; a plan's keys are paths, its values parts.

    A part is a module, or a pair of a class's name and a further plan.
    """
    root = _instance(kind)
    for path, part in plan.items():
        built = model(*part) if isinstance(part, tuple) else part
        parent, _, last = path.rpartition(".")
        _at(root, parent).add_module(last, built)
    return root


def linear(inputs: int = 8, outputs: int = 8) -> torch.nn.Linear:
    """Return a linear layer."""
    return torch.nn.Linear(inputs, outputs)


def conv(size: int) -> torch.nn.Conv2d:
    """Return a convolution over eight channels that keeps their extents."""
    return torch.nn.Conv2d(8, 8, size, padding=size // 2)


def _instance(kind: str) -> torch.nn.Module:
    return type(kind, (Chain,), {})()


def _at(root: torch.nn.Module, path: str) -> torch.nn.Module:
    for name in path.split(".") if path else []:
        if name not in root._modules:
            root.add_module(name, _instance("Part"))
        root = root._modules[name]
    return root
