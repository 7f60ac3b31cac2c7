"""A Ray cluster of two nodes on this machine: the verdicts of one process, also after a death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file

import sentinel
from remote_servers import FileServer
from sentinel.daemon.logged_scan import keep_tensors, log_scan
from sentinel.engines.cluster import RayEngine
from sentinel.errors import ConfigError, WorkerDiedError
from sentinel.flow import Judgement
from sentinel.health.query import connect
from sentinel.remote.paths import place_of
from sentinel.rules.load import load_rules
from sentinel.spreading import Spread

s3fs = pytest.importorskip("s3fs")
ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

RULES = load_rules()
PORTION_BYTES = 300_000
NAN_AT = 4


@pytest.fixture(scope="module")
def bucket(s3_url: str) -> Iterator[Mapping[str, str]]:
    """An S3 server's bucket, and the environment by which it is read."""
    environment = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_url,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        files = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
        files.mkdir("cluster")
        yield environment
        files.rm("cluster", recursive=True)


@pytest.fixture(scope="module")
def cluster(bucket: Mapping[str, str]) -> Iterator[object]:  # noqa: ARG001 - nodes inherit it
    """Two nodes with a processor each, which find sentinel and S3 as this process does."""
    nodes = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes()
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five saves of one run, of several portions each; the last has a NaN."""
    root = tmp_path_factory.mktemp("cluster")
    draw = np.random.default_rng(3)
    for step in range(1, 6):
        tensors = {
            f"base_model.model.layers.{n}.q_proj.lora_{side}.weight": draw.normal(
                0, 0.02 if side == "B" else 1.0, shape
            ).astype("f4")
            for n in range(3)
            for side, shape in (("A", (16, 4096 + 8192 * (n == 0))), ("B", (4096, 16)))
        }
        if step > NAN_AT:
            tensors["base_model.model.layers.0.q_proj.lora_A.weight"][9, 9000] = np.nan
        path = root / "out" / f"checkpoint-{step}"
        path.mkdir(parents=True)
        save_file(tensors, path / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": 16, "lora_alpha": 32}
        (path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
        state = {"global_step": step, "log_history": [{"step": step, "loss": 2.0 / step}]}
        (path / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    return root


def sums_of(judgements: tuple[Judgement, ...]) -> list[np.ndarray]:
    tables = [one.measured.tensors.select(["mean", "l2"]).to_pydict() for one in judgements]
    return [np.array([table["mean"], table["l2"]]) for table in tables]


def assert_same(there: tuple[Judgement, ...], here: tuple[Judgement, ...]) -> None:
    assert [one.checkpoint for one in there] == [one.checkpoint for one in here]
    assert [one.verdict for one in there] == [one.verdict for one in here]
    for mine, theirs in zip(sums_of(there), sums_of(here), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-14)
    for mine, theirs in zip(there, here, strict=True):
        left = mine.measured.tensors.drop_columns(["mean", "l2"])
        assert left.to_pylist() == theirs.measured.tensors.drop_columns(["mean", "l2"]).to_pylist()


@pytest.mark.usefixtures("cluster")
def test_the_same_verdicts_and_each_row_once(run, tmp_path, monkeypatch) -> None:
    """Checkpoints in portions, on two nodes: what one process says, and the log holds it once.

    The nodes were started elsewhere than where the relative path leads from.
    """
    monkeypatch.chdir(run)
    here = sentinel.scan("out", rules=RULES, settle_s=0)
    keep = partial(keep_tensors, tmp_path / "log")
    spread = Spread(RayEngine(), keep, PORTION_BYTES)
    there = sentinel.scan("out", rules=RULES, settle_s=0, spread=spread)

    assert_same(there, here)
    assert [one.verdict.level for one in there][-1] == "faulty"
    log_scan(there, tmp_path / "log", kept=True)
    log_scan(here, tmp_path / "local")
    for query in (
        "SELECT count(*), count(DISTINCT tensor) FROM tensors",
        "SELECT checkpoint_id, tensor, digest, nan_count FROM tensors ORDER BY ALL",
        "SELECT checkpoint_id, step, verdict, seq, parent FROM checkpoints ORDER BY ALL",
    ):
        mine, theirs = (
            connect(tmp_path / name).execute(query).fetchall() for name in ("log", "local")
        )
        assert mine == theirs


def test_the_command_on_s3(cluster, bucket, run, tmp_path) -> None:
    """`sentinel scan s3://... --engine ray --log` says and logs what the local engine does."""
    s3fs.S3FileSystem(skip_instance_cache=True).put(str(run / "out"), "cluster/", recursive=True)
    told = []
    for name, engine in (("ray", ["--engine", "ray"]), ("local", [])):
        log = ["--log", str(tmp_path / name), "--format", "json"]
        done = subprocess.run(
            [sys.executable, "-m", "sentinel", "scan", "s3://cluster/out", *log, *engine],
            env={**os.environ, **bucket, "RAY_ADDRESS": cluster.address},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (1, "")
        rows = connect(tmp_path / name).execute(
            "SELECT checkpoint_id, tensor, digest, zero_count FROM tensors ORDER BY ALL"
        )
        told.append((json.loads(done.stdout), rows.fetchall()))

    assert told[0] == told[1]
    assert [one["verdict"] for one in told[0][0]["checkpoints"]][-1] == "faulty"


def workers() -> list[psutil.Process]:
    """The processes of the cluster that run a task now."""
    mine = psutil.Process().children(recursive=True)
    return [one for one in mine if one.is_running() and "ray::_call" in " ".join(one.cmdline()[:1])]


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_is_killed_is_retried(run, tmp_path) -> None:
    """SIGKILL in the middle of reading: its task is begun again, and nothing counts twice."""
    killed: list[int] = []
    with FileServer(run) as server:

        def kill_once(path: str) -> None:
            if not killed and path.endswith("adapter_model.safetensors") and (busy := workers()):
                killed.append(busy[0].pid)
                os.kill(busy[0].pid, signal.SIGKILL)

        server.before = kill_once
        keep = partial(keep_tensors, tmp_path / "log")
        spread = Spread(RayEngine(), keep, PORTION_BYTES)
        there = sentinel.scan(f"{server.url}/out", rules=RULES, settle_s=0, spread=spread)
        log_scan(there, tmp_path / "log", kept=True)
        here = sentinel.scan(f"{server.url}/out", rules=RULES, settle_s=0)

    assert killed
    assert not psutil.pid_exists(killed[0]) or psutil.Process(killed[0]).status() == "zombie"
    assert_same(there, here)
    counted = "SELECT count(*) = count(DISTINCT (checkpoint_id, tensor)), count(*) FROM tensors"
    assert connect(tmp_path / "log").execute(counted).fetchall() == [(True, 5 * 6)]


@pytest.mark.usefixtures("cluster")
def test_what_a_task_raises_is_raised_here() -> None:
    with pytest.raises(ConfigError, match="'ftp' is no known scheme"):
        list(RayEngine().map(place_of, ["out", "ftp://host/x"]))


@pytest.mark.usefixtures("cluster")
def test_a_task_that_always_dies_is_given_up() -> None:
    """It is not begun for ever, and one sentence says so."""
    with pytest.raises(WorkerDiedError, match="begun up to 4 times"):
        list(RayEngine().map(os._exit, [1]))


def test_without_a_cluster_it_is_said(tmp_path) -> None:
    """No cluster is begun behind the user's back."""
    program = "from sentinel.engines.cluster import RayEngine; RayEngine()"
    environment = {**os.environ, "RAY_TMPDIR": str(tmp_path), "RAY_ADDRESS": "127.0.0.1:1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "finds no cluster" in done.stderr
