"""Training settings under flat dotted names, the same for every layout that knows the fact."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sentinel.checkpoint import Tensor
from sentinel.formats.scalars import as_number, as_text, brief

Setting = str | int | float | bool

_DEEPEST = 6
_MOST = 500
_LONGEST_TEXT = 4096

_COMPUTED = frozenset({"fp32", "fp16", "bf16", "fp8"})
_PRECISIONS: Mapping[str, str] = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}


def flatten(prefix: str, value: object) -> dict[str, Setting]:
    """Return the leaves of nested JSON by dotted name; null is left out, a list becomes JSON.

    Depth, number and length are bounded, since the JSON may come from anywhere.
    """
    leaves: dict[str, Setting] = {}
    for name, leaf in _leaves(prefix, value, _DEEPEST):
        if len(leaves) == _MOST:
            break
        leaves[name] = leaf
    return leaves


def precision_of(dtypes: Iterable[str]) -> str | None:
    """Return the one precision of some tensors ("fp32"), None when they differ or have none."""
    found = {_PRECISIONS.get(dtype) for dtype in dtypes}
    return found.pop() if len(found) == 1 else None


def adapter_precision(tensors: Iterable[Tensor]) -> str | None:
    """Return the precision the adapter's matrices lie in."""
    return precision_of(
        tensor.dtype for tensor in tensors if tensor.role in {"lora_up", "lora_down", "adapter"}
    )


def with_precision(
    settings: Mapping[str, Setting], tensors: Sequence[Tensor]
) -> dict[str, Setting]:
    """Return settings with ``precision.training``, the precision the forward pass computed in.

    It is that of the autocast; without one that of the weights, which are known where they are
    the model's own and not an adapter's over it.
    """
    found = dict(settings)
    mixed = found.get("precision.mixed")
    full = [one for one in ("fp16", "bf16") if found.get(f"precision.full_{one}") is True]
    precision = full[0] if full else mixed if mixed in _COMPUTED else None
    if mixed == "no" and precision is None:
        precision = precision_of(tensor.dtype for tensor in tensors)
        precision = precision if _is_whole_model(tensors) else None
    if precision is not None:
        found.setdefault("precision.training", precision)
    return found


def _is_whole_model(tensors: Sequence[Tensor]) -> bool:
    return all(tensor.role == "other" for tensor in tensors)


def _leaves(name: str, value: object, depth: int) -> Iterator[tuple[str, Setting]]:
    if isinstance(value, dict):
        if depth:
            for key, inner in value.items():
                yield from _leaves(f"{name}.{key}" if name else brief(key), inner, depth - 1)
        return
    leaf = _leaf(value)
    if leaf is not None and as_text(name) is not None:
        yield name, leaf


def _json_text(value: object) -> str | None:
    """Return the beginning of a value's JSON: a pickle's lists may share texts of any length."""
    text = ""
    try:
        for piece in json.JSONEncoder().iterencode(value):
            text += piece
            if len(text) > _LONGEST_TEXT:
                break
    except (TypeError, ValueError, RecursionError):
        return None
    return text


def _leaf(value: object) -> Setting | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        value = _json_text(value)
    if isinstance(value, str):
        return as_text(value[:_LONGEST_TEXT])
    return value if isinstance(value, int | float) and as_number(value) is not None else None
