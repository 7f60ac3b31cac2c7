"""Holding what sentinel says about a written case against the truth and the official reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import xxhash

from corpus.case import BaseTruth, Case, Truth
from corpus.official import Reference
from sentinel.checkpoint import Checkpoint, Piece, Tensor
from sentinel.dtypes import DTYPES
from sentinel.flow import Judgement
from sentinel.formats.base import read_base
from sentinel.rules.load import load_rules
from sentinel.rules.rule import Rule
from sentinel.scanning import scan

_ADAPTER_ROLES = frozenset({"lora_up", "lora_down", "lora_mid", "magnitude", "adapter"})


def wrong(case: Case, place: Path, path: Path) -> list[str]:
    """Scan what was written, as a user would, and return everything that is not as it must be."""
    given = path if case.named else place
    found_there = scan(given, rules=_rules(), settle_s=0)
    judgements = {one.checkpoint.path.resolve(): one for one in found_there}
    judgement = judgements.pop(path.resolve(), None)
    if judgement is None:
        return [f"not found; found were {sorted(map(str, judgements))}"]
    found = list(_against_truth(judgement, case.truth))
    if len(judgements) != case.others:
        found.append(f"checkpoints beside it: {sorted(map(str, judgements))}, not {case.others}")
    if case.read is not None:
        found.extend(_against_official(judgement, case.read(path)))
    if case.base is not None:
        found.extend(_against_base(place / case.base.folder, case.base))
    return found


@cache
def _rules() -> tuple[Rule, ...]:
    return load_rules()


def _against_truth(judgement: Judgement, truth: Truth) -> Iterator[str]:
    checkpoint, verdict = judgement.checkpoint, judgement.verdict
    said = {
        "layout": checkpoint.layout,
        "verdict": verdict.level,
        "findings": frozenset(finding.rule for finding in verdict.findings),
        "trainer": checkpoint.trainer,
        "step": checkpoint.step,
        "epoch": checkpoint.epoch,
        "updates_done": checkpoint.updates_done,
        "complete": checkpoint.complete,
        "usable": verdict.usable,
        "optimizer_parameters": _optimizer_parameters(checkpoint),
        **_of_weights(judgement),
    }
    for name, value in said.items():
        expected = getattr(truth, name)
        if value != expected:
            yield f"{name}: {_told(value, expected)}{_because(name, judgement)}"
    for name, expected in truth.settings.items():
        value = checkpoint.settings.get(name)
        if value != expected:
            yield f"setting {name}: {value!r}, not {expected!r}"


def _told(value: object, expected: object) -> str:
    if isinstance(value, frozenset) and isinstance(expected, frozenset):
        return f"more {sorted(value - expected)}, missing {sorted(expected - value)}"
    return f"{value!r}, not {expected!r}"


def _of_weights(judgement: Judgement) -> dict[str, object]:
    tensors = _weights(judgement.checkpoint)
    adapted = [one for one in tensors if one.role in _ADAPTER_ROLES]
    families = {one.family for one in adapted if one.role != "magnitude"}
    measured = judgement.measured
    pairs = measured.pairs.to_pylist() if measured else []
    idle = set(measured.effects["idle"].to_pylist()) if measured else set()
    return {
        "roles": dict(Counter(tensor.role for tensor in tensors)),
        "family": "+".join(sorted(families)) or None,
        "modules": frozenset(one.module for one in adapted if one.module),
        "pairs": frozenset((row["rank"], row["alpha"], row["scale"]) for row in pairs),
        "idle": idle.pop() if len(idle) == 1 else None,
    }


def _against_base(path: Path, truth: BaseTruth) -> Iterator[str]:
    """Compare what was understood of a packed model with the model before it was packed."""
    base = read_base(path)
    said = {
        "scheme": base.scheme,
        "compute_dtype": base.compute_dtype,
        "packed": sum(one.scheme != "none" for one in base.weights),
        "open_": sum(one.out_features is None for one in base.weights),
    }
    for name, value in said.items():
        if value != getattr(truth, name):
            yield f"base: {name}: {value!r}, not {getattr(truth, name)!r}"
    for one in base.weights:
        shape = (one.out_features, one.in_features)
        if one.out_features is not None and shape != truth.shapes.get(one.module):
            yield f"base: {one.module}: {shape}, not {truth.shapes.get(one.module)}"
    missing = truth.shapes.keys() - {one.module for one in base.weights}
    if missing:
        yield f"base: missing {sorted(missing)}"


def _weights(checkpoint: Checkpoint) -> list[Tensor]:
    parts = {member.path: member.part for member in checkpoint.members}
    return [one for one in checkpoint.tensors if parts.get(one.member) == "weights"]


def _optimizer_parameters(checkpoint: Checkpoint) -> int | None:
    return len(checkpoint.optimizer.parameters) if checkpoint.optimizer else None


def _because(name: str, judgement: Judgement) -> str:
    if name not in {"verdict", "findings"}:
        return ""
    return f" ({judgement.verdict.reason})"


def _against_official(judgement: Judgement, expected: dict[str, Reference]) -> Iterator[str]:
    """Compare names, dtypes, shapes, and the bytes by the digest of what was measured."""
    tensors = {tensor.name: tensor for tensor in _weights(judgement.checkpoint)}
    if set(tensors) != set(expected):
        yield f"names differ from the official reader's: {sorted(set(tensors) ^ set(expected))}"
        return
    rows = judgement.measured.tensors.to_pylist() if judgement.measured else []
    digests = {row["tensor"]: row["digest"] for row in rows}
    for name, reference in expected.items():
        tensor = tensors[name]
        if (tensor.dtype, tensor.shape) != (reference.dtype, reference.shape):
            yield f"{name}: {tensor.dtype} {tensor.shape}, officially {reference}"
        elif _bytes_of(tensor, judgement.checkpoint) != reference.data:
            yield f"{name}: where it is said to lie are other bytes than the official reader's"
        elif (
            tensor.is_plain
            and not tensor.pieces
            and digests[name] != xxhash.xxh3_128_hexdigest(reference.data)
        ):
            yield f"{name}: other bytes were measured than the official reader's"


def _bytes_of(tensor: Tensor, checkpoint: Checkpoint) -> bytes:
    """The elements in the order of the shape, little-endian, from where they are said to lie."""
    if tensor.is_plain and not tensor.pieces:
        return _raw(checkpoint, tensor.boxes[0]).tobytes()
    width = DTYPES[tensor.dtype].bits // 8
    whole = np.zeros((*tensor.shape, width), np.uint8)
    for box in tensor.boxes:
        elements = _raw(checkpoint, box).reshape(-1, width)
        if box.strides is None:
            elements = elements.reshape(*box.shape, width)
        else:
            at = np.zeros(box.shape, np.int64)
            for axis, stride in enumerate(box.strides):
                at += np.indices(box.shape)[axis] * stride
            elements = elements[at]
        where = tuple(slice(at, at + n) for at, n in zip(box.place, box.shape, strict=True))
        whole[where] = elements
    return (whole[..., ::-1] if tensor.big_endian else whole).tobytes()


def _raw(checkpoint: Checkpoint, box: Piece) -> np.ndarray:
    return np.fromfile(checkpoint.root / box.member, np.uint8, box.size_bytes, offset=box.offset)
