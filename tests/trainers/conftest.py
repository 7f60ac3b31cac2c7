"""Laying out again what a trainer wrote, from the facts that a probe kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

FACTS = Path(__file__).parent / "facts"

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "U8": "uint8",
    "BOOL": "bool",
}
"""torch's names of the dtypes that trainers write."""

Fill = Callable[[str, Any], Any]
"""From a tensor's key, and random values of its shape in torch's float32, to its values."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files are laid out with torch: everything here belongs to what needs it."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("trainer")


@pytest.fixture(scope="session")
def facts_of() -> Callable[[str], dict[str, Any]]:
    """Return what a probe kept, by its name."""

    def read(name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((FACTS / f"{name}.json").read_text(encoding="utf-8"))
        return content

    return read


@pytest.fixture
def lay() -> Callable[..., None]:
    """Return `lay(files, root, fill)`: files as `described` tells them, below a directory.

    The official writers write them. Tensors that were zero are zero, single values are as they
    were, all others are random, or what ``fill`` makes of them.
    """
    torch = pytest.importorskip("torch")
    write_tensors = pytest.importorskip("safetensors.torch").save_file
    generator = torch.Generator().manual_seed(0)

    def write(path: Path, file: Mapping[str, Any], fill: Fill | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if "tensors" in file:
            made = _tensors(file, fill, torch, generator)
            write_tensors(made, path, file["metadata"] or None)
        elif "torch" in file:
            torch.save(_tree(file["torch"], torch), path)
        elif "size_bytes" in file:
            path.write_bytes(bytes(file["size_bytes"]))
        else:
            text = file["text"] if "text" in file else json.dumps(file["json"])
            path.write_text(text, encoding="utf-8")

    def write_all(files: Mapping[str, Any], root: Path, fill: Fill | None = None) -> None:
        for name, file in files.items():
            write(root / name, file, fill)

    return write_all


def _tensors(
    file: Mapping[str, Any], fill: Fill | None, torch: Any, generator: Any
) -> dict[str, Any]:
    made = {}
    for key, (dtype, shape) in file["tensors"].items():
        value = torch.randn(shape, generator=generator) * 0.1
        if key in file.get("zero", ()):
            value = torch.zeros(shape)
        elif key in file.get("scalars", {}):
            value = torch.full(shape, file["scalars"][key])
        elif fill is not None:
            value = fill(key, value)
        made[key] = value.to(getattr(torch, DTYPES[dtype]))
    return made


def _tree(value: Any, torch: Any) -> Any:
    """What torch.save was given; of a tensor of several elements only dtype and shape are known."""
    if isinstance(value, list):
        return [_tree(inner, torch) for inner in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        dtype, shape, *single = value["$tensor"]
        return torch.full(shape, *single or [0.25], dtype=getattr(torch, dtype))
    if "$tuple" in value:
        return tuple(_tree(inner, torch) for inner in value["$tuple"])
    if "$items" in value:
        return {key: _tree(inner, torch) for key, inner in value["$items"]}
    return {key: _tree(inner, torch) for key, inner in value.items()}
