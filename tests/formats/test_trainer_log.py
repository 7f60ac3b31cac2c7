"""How many updates a log proves: never more than happened, None where nothing tells."""

from __future__ import annotations

import math

import pytest

from sentinel.formats.trainer_log import trainer_log_of


def log(step: int, *entries: tuple[int, float, float | None]) -> dict:
    """A `trainer_state.json` from (step, learning rate, gradient norm) triples."""
    history = [
        {"step": at, "learning_rate": rate, **({} if norm is None else {"grad_norm": norm})}
        for at, rate, norm in entries
    ]
    return {"global_step": step, "log_history": history}


NAN = math.nan


@pytest.mark.parametrize(
    ("content", "updates"),
    [
        (log(4, *((at, 1e-3, 1.0) for at in range(1, 5))), 3),
        (log(20, (10, 1e-3, 1.0), (20, 1e-3, 1.0)), 10),
        (log(4, (1, 0.0, 1.0), (2, 1e-4, 1.0), (3, 2e-4, 1.0), (4, 3e-4, 1.0)), 2),
        (log(4, (1, 1e-3, 1.0), (2, 1e-3, NAN), (3, 1e-3, math.inf), (4, 1e-3, 1.0)), 1),
        (log(3, (1, 1e-3, None), (2, 1e-3, None), (3, 0.0, None)), 1),
        (log(1, (1, 0.0, 1.0)), 0),
        (log(9, (1, 0.0, 1.0), (9, 0.0, 1.0)), 0),
        (log(1, (1, 1e-3, 1.0)), None),
        (log(3, (1, 1e-3, NAN), (2, 1e-3, NAN), (3, 1e-3, NAN)), None),
        (log(500), None),
        ({"log_history": [{"step": 3, "learning_rate": 1.0}]}, None),
        ({}, None),
        ({"global_step": 3, "log_history": "x"}, None),
        ({"global_step": 3, "log_history": [1, {"step": "x", "learning_rate": []}]}, None),
    ],
)
def test_updates(content: dict, updates: int | None) -> None:
    assert trainer_log_of(content).updates_done == updates


def test_metrics_keep_nan_and_end_at_the_checkpoint() -> None:
    """Python's json writes NaN bare; entries after the checkpoint's own step are not its own."""
    content = {
        "global_step": 2,
        "epoch": 0.5,
        "log_history": [
            {"step": 1, "loss": 2.5, "grad_norm": NAN, "epoch": 0.2, "loss_text": "x"},
            {"step": 2, "eval_loss": math.inf, "loss": True},
            {"step": 3, "loss": 1.0},
        ],
    }

    found = trainer_log_of(content)

    assert (found.step, found.epoch) == (2, 0.5)
    assert [(one.step, one.name) for one in found.metrics] == [
        (1, "loss"),
        (1, "grad_norm"),
        (2, "eval_loss"),
    ]
    assert math.isnan(found.metrics[1].value)
    assert math.isinf(found.metrics[2].value)
