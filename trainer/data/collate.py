"""Rows as a batch of tensors: padded at the end to the longest of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .encode import IGNORED
from .samples import Row


@dataclass(frozen=True, slots=True)
class Collator:
    """Make a batch. Padding is never learnt, and no attention reaches it.

    In rows of several records the padding is a record of its own, told by its positions.
    """

    pad_token_id: int

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Return tensors of (rows, longest row); a label a row stays one number."""
        import torch  # noqa: PLC0415 - batches are made in the loop, where it is loaded

        longest = max(len(row["input_ids"]) for row in rows)
        batch: dict[str, Any] = {}
        for key in rows[0]:
            values = [row[key] for row in rows]
            if isinstance(values[0], list):
                values = [value + self._padding(key, longest - len(value)) for value in values]
            batch[key] = torch.tensor(values, dtype=torch.long)
        if "position_ids" not in batch and "attention_mask" not in batch:
            filled = [[1] * len(row["input_ids"]) for row in rows]
            masks = [mask + [0] * (longest - len(mask)) for mask in filled]
            batch["attention_mask"] = torch.tensor(masks, dtype=torch.long)
        return batch

    def _padding(self, key: str, count: int) -> list[int]:
        if key == "position_ids":
            return list(range(count))
        value = {"input_ids": self.pad_token_id, "labels": IGNORED, "attention_mask": 0}[key]
        return [value] * count
