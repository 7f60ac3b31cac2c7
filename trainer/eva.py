"""EVA: an adapter that begins along the directions of what the base makes of the data."""

from __future__ import annotations

from typing import Any

from .data.collate import Collator
from .data.samples import Row, Samples
from .recipe import Recipe


def initialise_eva(model: Any, samples: Samples, collator: Collator, recipe: Recipe) -> None:
    """Set the adapter's down matrices from the activations on the training data (PEFT's EVA).

    The rows come in their own order, so that the same recipe begins the same way.
    """
    from peft import initialize_lora_eva_weights  # noqa: PLC0415 - only for this initialisation
    from torch.utils.data import DataLoader  # noqa: PLC0415

    device = next(model.parameters()).device

    def batch(rows: list[Row]) -> dict[str, Any]:
        return {key: value.to(device) for key, value in collator(rows).items()}

    loader: Any = DataLoader(
        samples,  # type: ignore[arg-type]
        batch_size=recipe.training.batch_size,
        collate_fn=batch,
    )
    initialize_lora_eva_weights(model, loader, show_progress_bar=False)
