"""A checkpoint elsewhere is judged as it is here: layouts, numbers, findings, sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

import sentinel
from corpus.registry import CASES
from remote_servers import FileServer
from sentinel.flow import Judgement
from sentinel.remote.paths import is_remote, place_of
from sentinel.rules.load import load_rules

pytestmark = [pytest.mark.trainer, pytest.mark.filterwarnings("ignore")]

RULES = load_rules()
LAYOUTS = (
    "peft/lora",
    "lycoris/locon-dead",
    "lycoris/locon-pickled",
    "trainer/adamw_torch",
    "trainer/diverged",
    "trainer/whole-sharded",
    "model/shards",
    "accelerate/whole",
    "dcp/many-files",
    "lightning/adapter",
    "lightning/adapter-half",
    "gguf/lora",
    "torch/zip",
    "torch/legacy",
    "numpy/npz",
)
ALWAYS = {"trainer/diverged", "model/shards", "torch/zip"}
"""Tried by default; the others are among the slow tests."""

BY_ID = {case.id: case for case in CASES}


def told(judgements: tuple[Judgement, ...], root: Path) -> dict[str, object]:
    """Everything that is said of each checkpoint, by its place below ``root``."""
    return {str(one.checkpoint.path.relative_to(root)): said(one, root) for one in judgements}


def said(one: Judgement, root: Path) -> object:
    findings = sorted(
        (found.rule, found.severity, found.message.replace(str(root), "ROOT"), found.tensors)
        for found in one.verdict.findings
    )
    measured = one.measured
    tables = (measured.tensors, measured.pairs, measured.effects) if measured else ()
    return (
        (one.checkpoint.layout, one.checkpoint.trainer, one.checkpoint.step),
        (one.verdict.level, one.verdict.usable, findings),
        {(missed.rule, missed.reason) for missed in one.verdict.not_evaluated},
        [(member.path, member.part, member.size_bytes) for member in one.checkpoint.members],
        [table.to_pylist() for table in tables],
        measured.optimizer.to_pylist() if measured and measured.optimizer else None,
    )


def written(name: str, place: Path) -> str:
    """Write a case below ``place``; return what a user names, relative to it."""
    case = BY_ID[name]
    for module in case.needs:
        pytest.importorskip(module)
    path = case.written(place, 1)
    return str((path if case.named else place / case.id).relative_to(place))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in ALWAYS else [pytest.mark.slow]) for name in LAYOUTS],
)
def test_on_s3(name, s3, tmp_path) -> None:
    """Uploaded as it lies, it is found by listing and read in ranges."""
    asked = written(name, tmp_path)
    s3.put(str(tmp_path / name.split("/")[0]), "runs/", recursive=True)

    here = sentinel.scan(tmp_path / asked, rules=RULES, settle_s=0)
    there = sentinel.scan(f"s3://runs/{asked}", rules=RULES, settle_s=0)

    assert here
    assert all(is_remote(one.checkpoint.path) for one in there)
    assert told(there, place_of("s3://runs")) == told(here, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "model/shards",
        pytest.param("trainer/diverged", marks=pytest.mark.slow),
        pytest.param("torch/zip", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(("store", "scheme"), [("google", "gs"), ("azure", "az")])
def test_on_other_stores(name, store, scheme, request, tmp_path) -> None:
    """As on S3, by the drivers of Google's and Azure's storage."""
    files = request.getfixturevalue(store)
    asked = written(name, tmp_path)
    files.put(str(tmp_path / name.split("/")[0]), "runs/", recursive=True)

    here = sentinel.scan(tmp_path / asked, rules=RULES, settle_s=0)
    there = sentinel.scan(f"{scheme}://runs/{asked}", rules=RULES, settle_s=0)

    assert here
    assert told(there, place_of(f"{scheme}://runs")) == told(here, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "model/shards",
        pytest.param("trainer/adamw_torch", marks=pytest.mark.slow),
        pytest.param("torch/zip", marks=pytest.mark.slow),
    ],
)
def test_on_a_web_server(name, web: FileServer, tmp_path) -> None:
    """Found by the pages of links that a plain web server writes of its directories."""
    asked = written(name, tmp_path / "web")

    here = sentinel.scan(tmp_path / "web" / asked, rules=RULES, settle_s=0)
    there = sentinel.scan(f"{web.url}/{asked}", rules=RULES, settle_s=0)

    assert here
    assert told(there, place_of(web.url)) == told(here, tmp_path / "web")


def test_in_memory(tmp_path) -> None:
    """What a program keeps in fsspec's memory is judged without a file."""
    fsspec = pytest.importorskip("fsspec")
    asked = written("peft/lora", tmp_path)
    files = fsspec.filesystem("memory")
    files.put(str(tmp_path / asked), "/kept", recursive=True)
    try:
        here = sentinel.scan(tmp_path / asked, rules=RULES, settle_s=0)
        there = sentinel.scan("memory://kept", rules=RULES, settle_s=0)
    finally:
        files.rm("/kept", recursive=True)

    assert told(there, place_of("memory://kept")) == told(here, tmp_path / asked)
