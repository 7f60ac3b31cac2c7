"""The rows of a training in memory: flat arrays, four bytes a token, made into lists when asked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RefusedError
from ..recipe import Recipe
from ..sections.data import Data
from . import blocks
from .encode import IGNORED, Encoded, encode, text_of
from .files import find_files, find_held_out
from .records import read_records

Row = dict[str, Any]


class Samples:
    """Rows of tokens with their labels; a dataset as torch's loaders take it.

    ``classes`` holds one label a row (classification), else labels lie beside the tokens.
    ``lengths`` of a row are those of the records in it when they are laid side by side; such a
    row has positions and no attention mask, by which Transformers keeps its records apart.
    """

    def __init__(
        self,
        rows: Sequence[Sequence[Encoded]],
        *,
        side_by_side: bool = False,
        classes: Sequence[int] | None = None,
    ) -> None:
        records = [record for row in rows for record in row]
        self.tokens = _flat(record.tokens for record in records)
        self.labels = None if classes else _flat(record.labels for record in records)
        self.classes = classes
        self.side_by_side = side_by_side
        self.lengths = [[len(record.tokens) for record in row] for row in rows]
        ends = np.cumsum([sum(lengths) for lengths in self.lengths], dtype=np.int64)
        self.starts = np.concatenate([np.zeros(1, np.int64), ends])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, at: int) -> Row:
        part = slice(int(self.starts[at]), int(self.starts[at + 1]))
        tokens = self.tokens[part].tolist()
        if self.classes is not None:
            return {"input_ids": tokens, "labels": self.classes[at]}
        labels = self.labels[part].tolist() if self.labels is not None else []
        if not self.side_by_side:
            return {"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": labels}
        positions: list[int] = []
        for length in self.lengths[at]:
            labels[len(positions)] = IGNORED  # the record before must not predict it
            positions += range(length)
        return {"input_ids": tokens, "position_ids": positions, "labels": labels}

    def facts(self) -> dict[str, Any]:
        """Return their number, their tokens, and a digest of both, for the manifest."""
        digest = hashlib.blake2b(self.tokens.tobytes(), digest_size=16)
        digest.update(self.starts.tobytes())
        if self.labels is not None:
            digest.update(self.labels.tobytes())
        digest.update(repr(self.classes).encode())
        return {
            "samples": len(self),
            "tokens": len(self.tokens),
            "digest": f"blake2b:{digest.hexdigest()}",
        }


def training_samples(recipe: Recipe, tokenizer: Any) -> Samples:
    """Return the rows to train on; raises RefusedError for data that can't be used."""
    data = recipe.data
    return _samples(recipe, tokenizer, find_files(data), data.files, data.split)


def held_out_samples(recipe: Recipe, tokenizer: Any) -> Samples:
    """Return the rows to evaluate on."""
    data = recipe.data
    return _samples(recipe, tokenizer, find_held_out(data), data.eval_files, data.eval_split)


def _samples(
    recipe: Recipe, tokenizer: Any, files: Sequence[Path], names: Sequence[str], split: str
) -> Samples:
    if recipe.num_labels is not None:
        return _labelled(recipe, tokenizer, files, names, split)
    data = recipe.data
    records = read_records(files, names, split, data)
    return language_samples(
        (encode(record, place, data, tokenizer) for place, record in records), data
    )


def language_samples(records: Iterable[Encoded], data: Data) -> Samples:
    """Return the rows that the recipe's packing makes of records."""
    size = data.block_size
    if data.packs == "cut":
        made, count = blocks.cut(records, size)
        if not made:
            fact = f"{count} tokens are less than one block of {size}"
            raise RefusedError("data", fact, "give more text or a smaller data.block_size")
        return Samples([[block] for block in made])
    kept = [short for record in records if (short := blocks.shorten(record, size))]
    if not kept:
        fact = f"no record has anything to learn within {size} tokens"
        raise RefusedError("data", fact, "give other records or a larger data.block_size")
    if data.packs == "none":
        return Samples([[record] for record in kept])
    return Samples(blocks.fill(kept, size), side_by_side=True)


def _labelled(
    recipe: Recipe, tokenizer: Any, files: Sequence[Path], names: Sequence[str], split: str
) -> Samples:
    """Return one row a record, its text cut at `block_size` tokens."""
    data, count = recipe.data, recipe.num_labels or 0
    rows, classes = [], []
    for place, record in read_records(files, names, split, data):
        label = record.get(data.label_key)
        if not isinstance(label, int) or not 0 <= label < count:
            fact = f"'{data.label_key}' is {label!r}, not a whole number below {count}"
            raise RefusedError(place, fact, "check data.label_key and num_labels")
        text = text_of(record, place, data.text_key)
        tokens = tokenizer(text, truncation=True, max_length=data.block_size)["input_ids"]
        if not tokens:
            raise RefusedError(place, f"'{data.text_key}' is empty", "leave the record out")
        rows.append([Encoded(tokens, tokens)])
        classes.append(label)
    if not rows:
        raise RefusedError("data", "no records in the files", "give at least one record")
    return Samples(rows, classes=classes)


def _flat(lists: Iterable[Sequence[int]]) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.fromiter((value for values in lists for value in values), dtype=np.int32)
