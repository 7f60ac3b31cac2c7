"""Runs in a health log, written as `sentinel run` writes them: real files, judged, recorded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sentinel.daemon.candidates import identity_or_own
from sentinel.daemon.journal import Journal
from sentinel.daemon.recording import Outcome, Recorder, RunRef, Times
from sentinel.daemon.telling import Teller
from sentinel.flow import Judgement, conclude, inspect, past_after
from sentinel.health.log import HealthLog
from sentinel.repairs.plan import Plan
from sentinel.reports.picture.told import told
from sentinel.reports.picture.whole_page import report_page
from sentinel.rules.load import load_rules

pytest.importorskip("jinja2")
pytest.importorskip("vl_convert")

LONG_AGO_S = 1_700_000_000
RULES = load_rules()
MADE_AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


@dataclass
class Written:
    """A run that is written checkpoint by checkpoint, with its journal and its health log."""

    root: Path
    layers: Sequence[str] = ("layers.0.q_proj", "layers.0.v_proj", "layers.1.q_proj")
    directory: str = "out"
    logged: bool = True
    last: dict[int, Judgement] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.out = self.root / self.directory
        self.out.mkdir(parents=True)
        self.log = HealthLog(self.root / "state" / "health")
        self.journal = Journal(self.root / "state" / "journal.sqlite")
        self.run_id = self.journal.bind_run((self.out,))
        self.recorder = Recorder(self.journal, self.log)
        self.teller = Teller(self.log, self.run_id, lambda _: None, on_note=lambda _: None)

    def save(self, step: int, *, up: float | None = None, loss: float | None = None) -> Path:
        """Write a checkpoint as PEFT and Transformers' Trainer do; ``up`` fills lora_B."""
        path = self.out / f"checkpoint-{step}"
        path.mkdir()
        draw = np.random.default_rng(step)
        tensors = {}
        for layer in self.layers:
            grown = draw.normal(0, 0.001 * step, (16, 4)) if up is None else np.full((16, 4), up)
            down = draw.uniform(-0.2, 0.2, (4, 32))
            tensors[f"base_model.model.{layer}.lora_A.weight"] = down.astype("f4")
            tensors[f"base_model.model.{layer}.lora_B.weight"] = grown.astype("f4")
        save_file(tensors, path / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}
        (path / "adapter_config.json").write_text(json.dumps(config))
        losses = [{"step": n, "loss": 2.0 - n / 1000} for n in range(1, step)]
        losses.append({"step": step, "loss": 2.0 - step / 1000 if loss is None else loss})
        rates = [{"step": n, "learning_rate": 1e-4} for n in range(1, step + 1)]
        state = {"global_step": step, "log_history": [*losses, *rates] if self.logged else rates}
        (path / "trainer_state.json").write_text(json.dumps(state))
        for file in path.iterdir():
            os.utime(file, (LONG_AGO_S, LONG_AGO_S))
        return path

    def judge(self, path: Path, *, attempt: int = 1, parent: Outcome | None = None) -> Outcome:
        """Judge what lies there, after the checkpoint before it, and write the verdict down."""
        inspected = inspect(path, digest=True)
        judgement = conclude(inspected, rules=RULES, past=past_after(self.last.get(attempt)))
        self.last[attempt] = judgement
        now = datetime.now(UTC)
        ref = RunRef(self.run_id, attempt, parent.row.checkpoint_id if parent else None, self.out)
        lies = identity_or_own(path, judgement.checkpoint.members)
        return self.recorder.write(ref, judgement, lies, Times(now, now, 0.1))

    def page(self, *, options: Sequence[str] = ()) -> str:
        """Return the report of what is in the log now."""
        return report_page(
            told(self.log.root, self.run_id),
            {rule.id: rule for rule in RULES},
            version="0.0",
            made_at=MADE_AT,
            options=options,
        )


def write_repaired(run: Written) -> None:
    """Write a run that goes bad at step 30 and is repaired from step 20 in bf16."""
    run.teller.tell("attempt", "attempt 1 started: train it", attempt=1, about=("start",))
    run.judge(run.save(10))
    good = run.judge(run.save(20))
    pinned = f"pinned 'checkpoint-20' to '{run.root}'"
    name = good.row.checkpoint_id
    run.teller.tell("action", pinned, attempt=1, about=("pin",), checkpoint_id=name)
    run.last[2] = run.last[1]  # where the second attempt begins
    path = run.save(30, up=np.nan, loss=np.nan)
    bad = run.judge(path)
    place = run.root / ".sentinel-quarantine" / bad.row.checkpoint_id / path.name
    place.parent.mkdir(parents=True)
    path.rename(place)
    moved = f"quarantined '{path.name}' to '{place}'"
    name = bad.row.checkpoint_id
    run.teller.tell("action", moved, attempt=1, about=("quarantine",), checkpoint_id=name)
    plan = Plan(
        rules=("nan-values",),
        target=good.row.checkpoint_id,
        target_path=good.row.path,
        target_step=20,
        precision="bf16",
        optimizer="drop",
        reason="resume from step 20, the last good checkpoint, in bf16",
        steps_lost=10,
    )
    run.teller.tell(
        "plan", plan.reason, attempt=1, about=("plan",), rule="nan-values", detail=plan.as_detail()
    )
    run.teller.tell("attempt", "attempt 2 started: train on", attempt=2, about=("start",))
    run.judge(run.save(30), attempt=2, parent=good)
    run.judge(run.save(40), attempt=2, parent=good)
    run.teller.tell(
        "outcome",
        "repair fixed: nan-values is gone from 2 checkpoints up to step 40",
        attempt=2,
        about=("proof",),
        detail={"result": "fixed", "loss_before": 1.98, "loss_after": 1.96},
    )


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Written]:
    written = Written(tmp_path)
    yield written
    written.journal.close()


@pytest.fixture(scope="session")
def repaired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    """The run of `write_repaired`, for all tests together."""
    written = Written(tmp_path_factory.mktemp("repaired"))
    write_repaired(written)
    yield written
    written.journal.close()


@pytest.fixture(scope="session")
def repaired_page(repaired: Written) -> str:
    return repaired.page(options=("--state", str(repaired.root / "state")))


VOID = frozenset({"meta", "input", "link", "br", "hr", "img"})


@dataclass
class Element:
    """A tag with its attributes, and what lies in it."""

    tag: str
    attributes: Mapping[str, str]
    inside: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text below, spaces made one."""
        parts = (one if isinstance(one, str) else one.text for one in self.inside)
        return " ".join(" ".join(parts).split())

    def all(self, tag: str | None = None, **wanted: str) -> Iterator[Element]:
        """Yield every element below with that tag and those attributes."""
        for one in self.inside:
            if isinstance(one, Element):
                if tag in {None, one.tag} and wanted.items() <= one.attributes.items():
                    yield one
                yield from one.all(tag, **wanted)

    def one(self, tag: str | None = None, **wanted: str) -> Element:
        (found,) = self.all(tag, **wanted)
        return found

    @property
    def drawings(self) -> list[Element]:
        """The drawings below, the wide ones."""
        return [one.one("svg") for one in self.all("div") if one.attributes.get("class") == "wide"]

    @property
    def labels(self) -> list[str]:
        """What a pointer shows or a screen reader says of the marks below."""
        found = (
            one.attributes.get(name) for one in self.all() for name in ("aria-label", "data-tip")
        )
        return [one for one in found if one]

    def table(self, summary: str) -> list[list[str]]:
        """The rows of the table behind a summary."""
        (found,) = [one for one in self.all("details") if one.one("summary").text == summary]
        return [[cell.text for cell in row.all("td")] for row in found.one("tbody").all("tr")]


class _Tree(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].inside.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].inside.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].inside.append(data)


def parsed(page: str) -> Element:
    """Return a page as a tree; a tag that is not closed where it was opened is an error."""
    tree = _Tree()
    tree.feed(page)
    tree.close()
    assert tree.open == [tree.root]
    return tree.root


@pytest.fixture
def tree(repaired_page: str) -> Element:
    return parsed(repaired_page)


@pytest.fixture
def parse():
    return parsed


@pytest.fixture
def write_repair():
    return write_repaired


@pytest.fixture
def new_run():
    return Written
