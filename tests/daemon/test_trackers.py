"""What must hold of trackers: real daemons, the real libraries, read back by their own readers."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from sentinel.trackers.wandb_file import records


def importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


@pytest.fixture
def judged(bench, saves, monkeypatch):
    """Start a watch over one healthy and one faulty checkpoint; what the training wrote stays."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_"))]:
        monkeypatch.delenv(name)
    saves.folder(bench.out / "checkpoint-10", 10)
    saves.folder(bench.out / "checkpoint-20", 20, nan=True)

    def start(tracker: str, *, code: int = 1):
        before = listing(bench.out)
        ran = bench.run(
            *("watch", str(bench.out), "--once", "--state", str(bench.state)),
            *("--track", tracker),
        )
        assert ran.code == code, ran.err
        assert listing(bench.out) == before
        return ran

    return start


def listing(place: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in place.rglob("*")}


def test_tensorboard_shows_verdicts_beside_the_training(bench, judged, saves):
    """One --logdir holds the training's run and ours; a restart writes nothing twice."""
    pytest.importorskip("tensorboard")
    place = "tensorboard.backend.event_processing"
    accumulator = importlib.import_module(f"{place}.event_accumulator")
    multiplexer = importlib.import_module(f"{place}.plugin_event_multiplexer")
    written_by = pytest.importorskip("tensorboardX")

    with written_by.SummaryWriter(str(bench.out / "runs" / "Nov27_host")) as writer:
        writer.add_scalar("train/loss", 0.5, 10)

    ran = judged("tensorboard")
    (top,) = (bench.state / "tensorboard").iterdir()
    assert f"TensorBoard: tensorboard --logdir '{top}'" in ran.err
    saves.folder(bench.out / "checkpoint-30", 30)
    judged("tensorboard", code=0)

    shown = multiplexer.EventMultiplexer()
    shown.AddRunsFromDirectory(str(top))
    shown.Reload()
    assert set(shown.Runs()) == {"training/Nov27_host", "sentinel-attempt-1"}
    ours = accumulator.EventAccumulator(str(top / "sentinel-attempt-1"))
    ours.Reload()

    def curve(name: str) -> list[tuple[int, float]]:
        return [(event.step, event.value) for event in ours.Scalars(f"sentinel/{name}")]

    assert curve("verdict") == [(10, 0.0), (20, 3.0), (30, 0.0)]
    assert curve("nan_values") == [(10, 0.0), (20, 1.0), (30, 0.0)]
    assert [step for step, _ in curve("norm")] == [10, 20, 30]
    assert [step for step, _ in curve("effect_norm")] == [10, 30]
    assert all(value > 0 for _, value in curve("norm") + curve("effect_norm"))
    (said,) = ours.Tensors("sentinel/says")
    assert said.step == 20
    assert b"**nan-values** (critical): " in said.tensor_proto.string_val[0]


def test_mlflow_gets_verdicts_into_the_trainings_own_run(bench, judged, saves, monkeypatch):
    """Found by the output directory among its parameters, as Transformers writes them."""
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")  # the smaller package has no store of its own
    uri = f"sqlite:///{bench.place / 'store.db'}"
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("cats")
    others = [client.create_run(experiment) for _ in range(2)]
    ours = client.create_run(experiment)
    client.log_param(ours.info.run_id, "output_dir", str(bench.out))
    client.log_param(others[0].info.run_id, "output_dir", str(bench.place / "another"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    ran = judged("mlflow")

    assert f"are written into run {ours.info.run_id}" in ran.err
    history = client.get_metric_history(ours.info.run_id, "sentinel/verdict")
    assert [(one.step, one.value) for one in history] == [(10, 0.0), (20, 3.0)]
    tags = client.get_run(ours.info.run_id).data.tags
    assert tags["sentinel/verdict"] == "faulty"
    assert tags["sentinel/rules"] == "nan-values"
    assert tags["sentinel/run"] == bench.run_id
    saves.folder(bench.out / "checkpoint-30", 30)
    judged("mlflow", code=0)
    again = client.get_metric_history(ours.info.run_id, "sentinel/verdict")
    assert [one.step for one in again] == [10, 20, 30]
    assert all(not client.get_run(one.info.run_id).data.metrics for one in others)


def test_mlflow_that_nobody_names_costs_the_tracker_alone(judged, bench):
    """One sentence that says what to set, and no database of its own in the working directory."""
    pytest.importorskip("mlflow")

    ran = judged("mlflow")

    assert ran.err.count("nothing tells where 'bench/out' logs; set MLFLOW_TRACKING_URI") == 1
    assert sorted(path.name for path in bench.place.iterdir()) == ["out", "state"]


def test_wandb_gets_an_offline_run_beside_the_trainings(bench, judged):
    """Same project, the training's run as its group; all of it in the state directory."""
    wandb = pytest.importorskip("wandb")
    record = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    quiet = wandb.Settings(silent=True, console="off", x_disable_stats=True)
    with wandb.init(mode="offline", dir=str(bench.place), project="cats", settings=quiet) as run:
        run.log({"loss": 0.5})
        training = run.id

    ran = judged("wandb")

    (ours,) = (bench.state / "wandb-runs" / "wandb").glob("offline-run-*")
    assert f"W&B: wandb sync '{ours}'" in ran.err
    (file,) = ours.glob("*.wandb")
    read = [record.FromString(payload) for payload in records(file.read_bytes())]
    (told,) = [one.run for one in read if one.WhichOneof("record_type") == "run"]
    assert (told.project, told.run_group, told.job_type) == ("cats", training, "sentinel")
    rows = [
        {item.key or "/".join(item.nested_key): item.value_json for item in one.history.item}
        for one in read
        if one.WhichOneof("record_type") == "history"
    ]
    seen = [
        (row["sentinel/step"], row["sentinel/verdict"], row["sentinel/nan_values"]) for row in rows
    ]
    assert [tuple(map(float, one)) for one in seen] == [(10, 0, 0), (20, 3, 1)]
    assert "exit" in [one.WhichOneof("record_type") for one in read]


def test_a_library_that_dies_costs_its_points_and_no_verdict(bench, judged, monkeypatch):
    """Killed while it writes: said once, every checkpoint has its verdict all the same."""
    if sys.platform == "win32":
        pytest.skip("a process ends otherwise there")
    shadow = bench.place / "shadow"
    (shadow / "tensorboard").mkdir(parents=True)
    (shadow / "tensorboard" / "__init__.py").write_text(
        "import os, sys\nif 'sentinel.trackers.tensorboard' in sys.modules: os.abort()\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{shadow}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    ran = judged("tensorboard")

    assert "nan-values" not in ran.err
    assert ran.err.count("tracker 'tensorboard': worker process: was killed by SIGABRT") == 1
    assert [row.verdict for row in bench.log().checkpoints] == ["healthy", "faulty"]


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow", "wandb"])
def test_a_library_that_is_not_there_is_said_at_the_start(bench, saves, tracker):
    """With the command that installs it; a directory of that name is no library."""
    if importable(tracker):
        pytest.skip(f"{tracker} is installed")
    saves.folder(bench.out / "checkpoint-10", 10)
    (bench.place / tracker).mkdir()

    ran = bench.run(
        *("watch", str(bench.out), "--once", "--state", str(bench.state), "--track", tracker)
    )

    assert ran.code == 2
    assert f"tracker '{tracker}': is not installed; run `pip install" in ran.err
