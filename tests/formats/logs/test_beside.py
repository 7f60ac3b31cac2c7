"""Logs where the trainers put them, seen from their checkpoints."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import sentinel
from sentinel.checkpoint import Metric
from sentinel.formats.containers import json_lines
from sentinel.formats.logs.beside import metrics_beside, updates_logged, with_log
from sentinel.formats.opening import open_checkpoint
from sentinel.rules.load import load_rules

Log = Callable[..., None]

LORA = {
    "base_model.model.q_proj.lora_A.weight": np.full((2, 6), 0.5, "f4"),
    "base_model.model.q_proj.lora_B.weight": np.full((4, 2), 0.5, "f4"),
}


def adapter(path: Path) -> Path:
    """A PEFT adapter, which knows nothing of a log."""
    path.mkdir(parents=True, exist_ok=True)
    save_file(LORA, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4}')
    return path


def kohya(path: Path, step: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"lora_unet_q.lora_{end}.weight": np.full((2, 2), 0.5, "f2") for end in ("up", "down")
    }
    save_file(tensors, path, {"ss_network_module": "networks.lora", "ss_steps": str(step)})
    return path


def lines(path: Path, *entries: Mapping[str, object] | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = (entry if isinstance(entry, str) else json.dumps(entry) for entry in entries)
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def beside(path: Path) -> dict[str, list[tuple[int, float]]]:
    """The metrics beside a checkpoint by name."""
    found: dict[str, list[tuple[int, float]]] = {}
    for metric in metrics_beside(open_checkpoint(path)):
        found.setdefault(metric.name, []).append((metric.step, metric.value))
    return found


@pytest.fixture
def log_events() -> Log:
    """Write scalars as the trainers do, with torch's own writer."""
    pytest.importorskip("tensorboard")
    tensorboard = pytest.importorskip("torch.utils.tensorboard")

    def write(directory: Path, **scalars: Mapping[int, float]) -> None:
        writer = tensorboard.SummaryWriter(directory)
        for step in sorted({step for values in scalars.values() for step in values}):
            for tag, values in scalars.items():
                if step in values:
                    writer.add_scalar(tag, values[step], step)
        writer.close()

    return write


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        (
            "trainer_log.jsonl",
            [
                {"current_steps": at, "total_steps": 9, "loss": at / 2, "lr": 1e-3, "epoch": 0.1}
                for at in (1, 2, 3)
            ],
        ),
        (
            "metrics.jsonl",
            [
                {
                    "step": at,
                    "epoch": 0.1,
                    "loss": at / 2,
                    "learning_rate": 1e-3,
                    "time": time.time(),
                }
                for at in (1, 2, 3)
            ],
        ),
        (
            "training_metrics.jsonl",
            [
                {
                    "schema_version": 1,
                    "timestamp": f"2026-11-26T10:00:0{at}+00:00",
                    "step": at,
                    "metrics": {
                        "optimization_loss": at / 2,
                        "train_loss": 9.0,
                        "learning_rate": 1e-3,
                    },
                }
                for at in (1, 2, 3)
            ],
        ),
        (
            "logging.jsonl",
            [
                {"loss": at / 2, "learning_rate": 1e-3, "global_step/max_steps": f"{at}/9"}
                for at in (1, 2, 3)
            ],
        ),
        (
            "log.jsonl",
            [
                {"step": at, "loss": at / 2, "lr/unet": 1e-3, "lr/d*lr/unet": 1.0}
                for at in (1, 2, 3)
            ],
        ),
    ],
)
def test_json_logs_of_the_trainers(
    tmp_path: Path, name: str, entries: list[Mapping[str, object]]
) -> None:
    """Each in the keys of its trainer: the entries up to the checkpoint's step, one name each."""
    path = adapter(tmp_path / "checkpoint-2")
    lines(tmp_path / name, *entries)

    assert beside(path) == {"loss": [(1, 0.5), (2, 1.0)], "learning_rate": [(1, 1e-3), (2, 1e-3)]}


def test_a_json_log_with_all_that_goes_wrong(tmp_path: Path) -> None:
    """NaN as Python writes it, null that stands for it, foreign lines, and a torn last one."""
    path = adapter(tmp_path / "checkpoint-9")
    log = lines(
        tmp_path / "metrics.jsonl",
        '{"step": 1, "loss": NaN, "grad_norm": Infinity}',
        '{"step": 2, "loss": null, "grad_norm": 1.0, "non_finite": ["loss"]}',
        '{"step": 3, "loss": null, "eval_loss": 2}',
        "[1, 2]",
        "no json",
        "",
        '{"step": -4, "loss": 1.0}',
        '{"step": "x", "loss": 1.0}',
        '{"step": 1e400, "loss": 1.0}',
        '{"step": 5, "loss": true}',
        "[" * 100_000,
        '{"step": 6, "loss": ' + "9" * 10_000 + "}",
        '{"step": 8.0, "loss": 1.5}',
    )
    with log.open("ab") as file:
        file.write(b'\xff\xfe{"step": 9}\n{"step": 9, "loss": 0.')

    found = beside(path)

    assert math.isnan(found["loss"][0][1])
    assert math.isnan(found["loss"][1][1])
    assert found["loss"][2:] == [(8, 1.5)]
    assert found["grad_norm"] == [(1, math.inf), (2, 1.0)]
    assert found["eval_loss"] == [(3, 2.0)]


def test_the_last_lines_of_a_large_log_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "TAIL_LIMIT_BYTES", 500)
    path = adapter(tmp_path / "checkpoint-1000")
    lines(tmp_path / "metrics.jsonl", *({"step": at, "loss": float(at)} for at in range(1, 1001)))

    found = beside(path)["loss"]

    assert found[-1] == (1000, 1000.0)
    assert 5 < len(found) < 50


@pytest.mark.parametrize(
    ("checkpoint", "directory"),
    [
        ("checkpoint-2", "runs/Nov26_10-00-00_host"),
        ("checkpoint-2", "logs/text2image-fine-tune"),
        ("checkpoint-2", "."),
        ("lightning_logs/version_0/checkpoints/checkpoint-2", "lightning_logs/version_0"),
        ("model/checkpoint-2", "log/20261126100000/network_train"),
    ],
)
def test_event_files_where_the_trainers_put_them(
    tmp_path: Path, log_events: Log, checkpoint: str, directory: str
) -> None:
    path = adapter(tmp_path / checkpoint)
    log_events(tmp_path / directory, **{"train/loss": {1: 0.5, 2: 0.25, 3: math.nan}})

    assert beside(path) == {"loss": [(1, 0.5), (2, 0.25)]}


def test_the_log_of_a_onetrainer_workspace(tmp_path: Path, log_events: Log) -> None:
    """Backups lie in `backup/`, the log in `tensorboard/` beside it."""
    path = tmp_path / "backup" / "2026-11-26_10-00-00-backup-2-0-2"
    (path / "lora").mkdir(parents=True)
    save_file(LORA, path / "lora" / "lora.safetensors")
    meta = {"train_progress": {"epoch": 0, "epoch_step": 2, "global_step": 2}}
    (path / "meta.json").write_text(json.dumps(meta))
    log_events(
        tmp_path / "tensorboard" / "cat2026-11-26_09-00-00",
        **{
            "loss/train_step": {0: 0.5, 2: 0.25, 3: math.nan},
            "smooth_loss/train_step": {0: 9.0, 2: 9.0},
            "lr/unet": {0: 0.0, 2: 0.5},
        },
    )

    assert open_checkpoint(path).layout == "onetrainer-backup"
    assert beside(path) == {
        "loss": [(0, 0.5), (2, 0.25)],
        "learning_rate": [(0, 0.0), (2, 0.5)],
    }


def test_tags_of_onetrainer_and_sd_scripts(tmp_path: Path, log_events: Log) -> None:
    """The loss of the step counts, not its average; of several rates the largest."""
    path = kohya(tmp_path / "out" / "cat.safetensors", 2)
    log_events(
        tmp_path / "out" / "logs" / "20261126" / "network_train",
        **{
            "loss/average": {1: 7.0, 2: 7.0},
            "loss/current": {1: 1.0, 2: 2.0},
            "lr/textencoder": {1: 0.0, 2: 0.25},
            "lr/unet": {1: 0.5, 2: 0.0},
            "lr/d*lr/unet": {1: 9.0, 2: 9.0},
            "loss/epoch_average": {1: 5.0},
        },
    )

    assert beside(path) == {
        "loss": [(1, 1.0), (2, 2.0)],
        "learning_rate": [(1, 0.5), (2, 0.25)],
    }


def test_an_own_log_goes_before_one_beside(tmp_path: Path) -> None:
    path = adapter(tmp_path / "checkpoint-2")
    state = {"global_step": 2, "log_history": [{"step": 2, "loss": 1.0}]}
    (path / "trainer_state.json").write_text(json.dumps(state))
    lines(tmp_path / "metrics.jsonl", {"step": 1, "loss": 9.0}, {"step": 2, "loss": 9.0})

    assert with_log(open_checkpoint(path)).metrics == (Metric(2, "loss", 1.0),)


def test_updates_are_counted_where_nothing_better_is_known(tmp_path: Path) -> None:
    """Logged steps with a rate above zero and a finite gradient, without the first."""
    path = adapter(tmp_path / "checkpoint-5")
    rates = {1: 0.0, 2: 1e-3, 3: 1e-3, 4: 1e-3, 5: 1e-3}
    lines(
        tmp_path / "metrics.jsonl",
        *(
            {"step": at, "loss": 1.0, "lr": rate, "grad_norm": math.inf if at == 4 else 1.0}
            for at, rate in rates.items()
        ),
    )

    assert with_log(open_checkpoint(path)).updates_done == 2
    assert updates_logged((Metric(1, "learning_rate", 0.0), Metric(1, "loss", 1.0))) is None


@pytest.mark.parametrize("kind", ["directory", "garbage", "empty", "gone", "pipe"])
def test_a_broken_log_is_no_fault_of_the_checkpoint(tmp_path: Path, kind: str) -> None:
    """It is no part of it: its numbers are unknown, and the verdict is what it was."""
    path = adapter(tmp_path / "checkpoint-5")
    (tmp_path / "runs" / "a").mkdir(parents=True)
    for log in (tmp_path / "metrics.jsonl", tmp_path / "runs" / "a" / "events.out.tfevents.1.h"):
        if kind == "directory":
            log.mkdir()
        elif kind == "gone":
            log.symlink_to(tmp_path / "nowhere")
        elif kind == "pipe":
            os.mkfifo(log)
        else:
            log.write_bytes(b"" if kind == "empty" else bytes(range(256)) * 50)
    before = open_checkpoint(path)

    assert with_log(before) == before


def test_a_later_nan_blames_no_earlier_checkpoint(tmp_path: Path, log_events: Log) -> None:
    """Scanned after the run: the first checkpoint whose own loss was NaN is the first found."""
    losses = {at: 2.0 if at <= 20 else math.nan for at in range(1, 41)}
    paths = [kohya(tmp_path / f"cat-step{at:08d}.safetensors", at) for at in (10, 20, 30, 40)]
    log_events(tmp_path / "logs" / "20261126" / "network_train", **{"loss/current": losses})

    judged = sentinel.scan(tmp_path, rules=load_rules(), settle_s=0)
    named = {
        one.checkpoint.step: {finding.rule for finding in one.verdict.findings} for one in judged
    }

    assert [one.checkpoint.path for one in judged] == paths
    assert {step: "loss-not-finite" in rules for step, rules in named.items()} == {
        10: False,
        20: False,
        30: True,
        40: True,
    }


@pytest.mark.trainer
def test_a_transformers_run_logs_the_same_in_both_places(tmp_path: Path) -> None:
    """Event files of a real run hold what its `trainer_state.json` does, up to float32."""
    pytest.importorskip("tensorboard")
    transformers = pytest.importorskip("transformers")
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=32,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
    )
    rows = [{"input_ids": [1, 2, 3, 4], "labels": [1, 2, 3, 4]}] * 16
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=9,
        save_steps=3,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=3,
        report_to=["tensorboard"],
        use_cpu=True,
        disable_tqdm=True,
    )
    transformers.Trainer(
        model=model, args=arguments, train_dataset=rows, eval_dataset=rows[:2]
    ).train()

    for step in (3, 6, 9):
        checkpoint = open_checkpoint(tmp_path / f"checkpoint-{step}")
        own = {(one.step, one.name): one.value for one in checkpoint.metrics}
        found = metrics_beside(checkpoint)
        assert {(one.step, one.name) for one in found} == own.keys()
        assert len(found) == 3 * step + step // 3
        for one in found:
            assert one.value == float(np.float32(own[one.step, one.name]))
        assert updates_logged(found) == checkpoint.updates_done
