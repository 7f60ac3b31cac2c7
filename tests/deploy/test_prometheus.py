"""The alert rules and the dashboard speak of metrics that a real daemon has, in real PromQL."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml

from deploy.commands import DEPLOY
from scraped import Scrape, from_file, scraped_when

ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
CONFIG = DEPLOY / "prometheus" / "prometheus.yaml"
BOARD = json.loads((DEPLOY / "grafana" / "sentinel.json").read_text(encoding="utf-8"))
PANELS = {panel["title"]: panel for panel in BOARD["panels"]}
QUERIES = [target["expr"] for panel in PANELS.values() for target in panel["targets"]]
VARIABLES = {"$name": ".*", "$__rate_interval": "5m"}
"""What Grafana puts in the place of variables."""

OTHERS = {"up"}
"""What Prometheus itself says of a target."""

promtool = shutil.which("promtool")
prometheus = shutil.which("prometheus")
with_promtool = pytest.mark.skipif(not promtool, reason="promtool is not installed")


def filled(query: str) -> str:
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


def rules() -> list[dict[str, object]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def named(query: str) -> set[str]:
    """The metrics of a query: names that no brace or parenthesis makes a function or label."""
    return set(re.findall(r"\b(?:(?:sentinel|process)_\w+|up)\b(?!\s*(?:=|!|\())", query))


@pytest.fixture(scope="module")
def written(tmp_path_factory, saves) -> Scrape:
    """What a real daemon tells of a healthy and a faulty checkpoint."""
    place = tmp_path_factory.mktemp("prometheus")
    saves.file(place / "out" / "cat-000010.safetensors", 10)
    saves.file(place / "out" / "cat-000020.safetensors", 20, nan=True)
    words = [
        sys.executable,
        "-m",
        "sentinel",
        "watch",
        "--once",
        "out",
        "--state",
        "state",
        "--metrics-file",
        "s.prom",
    ]
    subprocess.run(words, cwd=place, check=False, timeout=100, capture_output=True)
    return from_file(place / "s.prom")


def test_every_metric_asked_for_is_one_that_a_daemon_tells(written):
    """A renamed metric would leave an alert silent for ever."""
    kinds = written.families()
    told = {f"{name}{end}" for name in kinds for end in ("", "_total", "_bucket")} | OTHERS
    asked = set().union(*map(named, [*QUERIES, *(rule["expr"] for rule in rules())]))

    assert asked - told == set()
    assert len(asked) > 15
    assert {kind for name, kind in kinds.items() if name.startswith("sentinel_")} == {
        *("counter", "gauge", "histogram"),
    }


def test_every_panel_and_alert_can_be_read():
    """Titles, units where a number has one, and for each alert what to do about it."""
    for title, panel in PANELS.items():
        assert panel["targets"], title
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    for rule in rules():
        assert rule["alert"].startswith("Sentinel")
        assert rule["annotations"]["summary"], rule
        assert re.search(r"sentinel log|systemctl|watch|delete", rule["annotations"]["description"])


def test_grafanas_own_library_reads_the_dashboard_and_loses_nothing():
    """Read into Grafana's typed model and written again it is the same."""
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder")

    read = models.Dashboard.from_json(BOARD)

    assert kept(BOARD, json.loads(encoder.JSONEncoder().encode(read)))


def kept(ours: object, theirs: object) -> bool:
    """Everything of ours is in theirs, which may say more (defaults)."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return all(key in theirs and kept(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(kept, ours, theirs))
    return ours == theirs


@with_promtool
def test_the_alerts_fire_when_they_should_and_not_else(tmp_path):
    """Prometheus' own unit tests of rules: each alert, and its healthy twin."""
    for file in (ALERTS, Path(__file__).with_name("alerts.test.yaml")):
        shutil.copy(file, tmp_path)

    for words in (
        ["check", "config", str(CONFIG)],
        ["check", "rules", str(ALERTS)],
        ["test", "rules", "alerts.test.yaml"],
    ):
        done = subprocess.run([promtool, *words], cwd=tmp_path, capture_output=True, text=True,
                              check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    tests = (tmp_path / "alerts.test.yaml").read_text(encoding="utf-8")
    assert all(rule["alert"] in tests for rule in rules())


@with_promtool
def test_every_query_of_the_dashboard_is_promql(tmp_path):
    """Each is read as the rule it could be; the metrics themselves pass Prometheus' linter."""
    file = tmp_path / "queries.yaml"
    recorded = [{"record": f"q:{n}", "expr": filled(q)} for n, q in enumerate(QUERIES)]
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": recorded}]}))

    done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True,
                          check=False)  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(QUERIES)} rules found" in done.stdout


@with_promtool
def test_prometheus_has_nothing_to_say_against_the_metrics(written):
    """`promtool check metrics` knows the conventions of names, units and help texts."""
    done = subprocess.run([promtool, "check", "metrics"], input=written.text, capture_output=True,
                          text=True, check=False)  # fmt: skip

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.skipif(not prometheus, reason="prometheus is not installed")
def test_a_real_prometheus_answers_every_query(tmp_path, saves):
    """It scrapes a real daemon, and each query of the dashboard and the alerts is answered."""
    saves.file(tmp_path / "out" / "cat-000020.safetensors", 20, nan=True)
    ports = []
    for _ in range(2):
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            ports.append(one.getsockname()[1])
    ours, theirs = ports
    text = CONFIG.read_text(encoding="utf-8").replace("9911", str(ours)).replace("15s", "1s")
    (tmp_path / "prometheus.yaml").write_text(text, encoding="utf-8")
    shutil.copy(ALERTS, tmp_path)
    watch = [
        sys.executable,
        "-m",
        "sentinel",
        "watch",
        "out",
        "--state",
        "state",
        "--metrics-port",
        str(ours),
    ]
    server = [prometheus, "--config.file=prometheus.yaml", "--storage.tsdb.path=data",
              f"--web.listen-address=127.0.0.1:{theirs}"]  # fmt: skip

    def ask(path: str, **values: str):
        query = urllib.parse.urlencode(values)
        with urllib.request.urlopen(f"http://127.0.0.1:{theirs}/api/v1/{path}?{query}") as answer:
            return json.load(answer)["data"]

    with subprocess.Popen(watch, cwd=tmp_path) as daemon, \
            subprocess.Popen(server, cwd=tmp_path) as beside:  # fmt: skip
        try:
            scraped_when(
                daemon, ours, lambda seen: bool(seen.values("sentinel_last_checkpoint_step"))
            )
            scraped_when(beside, theirs, lambda _: bool(ask("alerts")["alerts"]))
            answers = {query: ask("query", query=filled(query))["result"] for query in QUERIES}
            alerts = ask("alerts")["alerts"]
        finally:
            daemon.kill()
            beside.kill()

    assert [one["labels"]["alertname"] for one in alerts] == ["SentinelFaultyCheckpoint"]
    assert alerts[0]["annotations"]["summary"].endswith("/out: the newest checkpoint is faulty")
    faulty = PANELS["Runs whose newest checkpoint is faulty"]["targets"][0]["expr"]
    assert answers[faulty][0]["value"][1] == "1"
    # Two scrapes are too few for a rate, and this run has no loss and nobody who started it.
    rates = ("increase(", "rate(", "sentinel_last_loss", "sentinel_run_state")
    silent = [query for query, answer in answers.items() if not answer]
    assert [query for query in silent if not any(one in query for one in rates)] == []
