from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.checkpoint import Checkpoint
from sentinel.reports.entries import ScanEntry, ScanReport
from sentinel.reports.json_report import scan_to_json
from sentinel.verdict import Finding, NotEvaluated, Verdict

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs" / "scan.schema.json").read_text(encoding="utf-8")
)


def parsed(*entries: ScanEntry) -> dict:
    """Read a report back, refusing the NaN that Python's JSON would let through."""

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    return json.loads(scan_to_json(ScanReport(entries)), parse_constant=refuse)


def test_keeps_to_the_schema_file(samples):
    """Real reports, also the empty one, validate against docs/scan.schema.json."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    jsonschema.validate(parsed(*samples.ENTRIES), SCHEMA)
    jsonschema.validate(parsed(), SCHEMA)


def test_says_everything_the_contract_asks_for(samples):
    """Keys and values are those of the contract, the gravest finding is the reason."""
    entry = replace(samples.ENTRIES[1], run="r", attempt=2, checkpoint_id="c")

    report = parsed(entry)

    assert report["summary"] == {"healthy": 0, "suspect": 0, "faulty": 1, "unreadable": 0}
    checkpoint = report["checkpoints"][0]
    finding = checkpoint["findings"][0]
    assert checkpoint["path"] == str(samples.BASE / "checkpoint-40")
    assert checkpoint["reason"] == samples.DEAD.message
    assert (checkpoint["run"], checkpoint["attempt"], checkpoint["checkpoint_id"]) == ("r", 2, "c")
    assert finding["remedy"]["resume"]["precision"] == "fp32"
    assert finding["tensor_count"] == 264
    assert checkpoint["not_evaluated"][0] == {
        "rule": "norm-explosion",
        "reason": "the base model is not known",
    }


def test_lists_at_most_twenty_tensors(samples):
    """A finding that names more is cut: tensor_count still tells all."""
    names = tuple(f"t{n}" for n in range(30))
    finding = replace(samples.DEAD, tensors=names, tensor_count=30)

    report = parsed(replace(samples.ENTRIES[1], verdict=Verdict("faulty", (), (finding,))))

    listed = report["checkpoints"][0]["findings"][0]
    assert listed["tensors"] == list(names[:20])
    assert listed["tensor_count"] == 30
    jsonschema.validate(report, SCHEMA)


def test_escapes_undecodable_path_bytes(samples):
    """A file name that is no text becomes its bytes behind backslashes."""
    path = Path("/runs/caf\udce9")

    report = parsed(ScanEntry(samples.checkpoint(path), Verdict("healthy", ("weights",))))

    assert report["checkpoints"][0]["path"] == str(Path("/runs/caf")) + "\\xe9"


def test_writes_what_json_cannot_say_as_text(samples):
    """NaN and infinities are the strings of the contract, wherever they stand."""
    remedy = {"resume": {"lr": float("nan"), "range": (float("inf"), float("-inf"), 1.5)}}
    finding = replace(samples.LOSS, remedy=remedy)

    report = parsed(replace(samples.ENTRIES[4], verdict=Verdict("suspect", (), (finding,))))

    wish = report["checkpoints"][0]["findings"][0]["remedy"]["resume"]
    assert wish == {"lr": "nan", "range": ["inf", "-inf", 1.5]}


ANY_TEXT = st.text(st.characters(codec=None), max_size=20)


@given(name=ANY_TEXT, message=ANY_TEXT, number=st.floats(), reason=ANY_TEXT)
def test_is_ascii_json_whatever_the_files_say(name, message, number, reason):
    """No name, message or number makes it anything but valid ASCII JSON to the contract."""
    checkpoint = Checkpoint(
        Path("x" + name.replace("\0", "")), "peft", None, None, None, None, None, (), ()
    )
    finding = Finding("r", "warning", message, tensors=(name,), remedy={name: number})
    verdict = Verdict("suspect", (), (finding,), (NotEvaluated("q", reason),))

    text = scan_to_json(ScanReport((ScanEntry(checkpoint, verdict),)))

    assert text.isascii()
    assert text == json.dumps(json.loads(text), indent=2)
    jsonschema.validate(json.loads(text), SCHEMA)
