"""`sentinel check` and `sentinel doctor` by the door that the shell uses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jsonschema
import pytest

DOCS = Path(__file__).parents[2] / "docs"

BAD = {
    "training_method": "LORA",
    "train_dtype": "BFLOAT_16",
    "lora_weight_dtype": "FLOAT_16",
    "learning_rate": 1.0,
    "optimizer": {"optimizer": "PRODIGY", "d0": 1e-6},
}
DOUBTED = {**BAD, "optimizer": {"optimizer": "ADAMW"}}
GOOD = {**BAD, "lora_weight_dtype": "FLOAT_32"}


@pytest.fixture
def config(here):
    """Write a configuration and return its name."""

    def write(content: object, name: str = "config.json") -> str:
        (here / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return name

    return write


@pytest.mark.parametrize(
    ("content", "options", "code"),
    [
        (GOOD, [], 0),
        (BAD, [], 1),
        (DOUBTED, [], 0),
        (DOUBTED, ["--fail-on", "suspect"], 1),
        ("{", [], 2),
        ({"who": "knows"}, [], 2),
    ],
    ids=["good", "bad", "doubted", "doubted-strictly", "torn", "unknown"],
)
def test_the_exit_code_is_the_scans(sentinel, config, content, options, code):
    """0, 1 and 2 mean what they mean for a scan."""
    ran = sentinel("check", config(content), "--elsewhere", *options)

    assert ran.code == code
    assert (ran.err.count("\n") == 1) == (code == 2)


def test_a_pipe_gets_one_line(sentinel, config):
    """Verdict, trainer, what was understood, and each finding with what to do."""
    ran = sentinel("check", config(BAD), "--elsewhere")
    line, rest = ran.out.splitlines()

    assert line.startswith("faulty      config.json | onetrainer, JSON | precision: adapter fp16")
    assert "optimizer: prodigy, learning rate 1, d0 1e-06" in line
    assert "fp16-adapter-configured: the adapter would be trained in fp16" in line
    assert line.endswith("set lora_weight_dtype FLOAT_32 or BFLOAT_16")
    assert rest.endswith("--verbose lists them")


def test_json_is_what_its_schema_says(sentinel, config):
    """One object, with everything that was understood."""
    ran = sentinel("check", config(BAD), "--format", "json")
    found = json.loads(ran.out)

    jsonschema.validate(found, json.loads((DOCS / "check.schema.json").read_text()))
    assert (found["trainer"], found["verdict"]) == ("onetrainer", "faulty")
    assert found["settings"]["precision.adapter"] == "fp16"
    assert found["machine"]["device.type"] in {"cpu", "cuda"}
    assert "versions.numpy" in found["machine"]
    assert found["start"] is None


def test_elsewhere_leaves_this_machine_out(sentinel, config):
    """A configuration for another machine is not judged by this one's device."""
    ran = sentinel("check", config(GOOD), "--format", "json", "--elsewhere")

    assert json.loads(ran.out)["machine"] == {}


def test_rules_that_could_not_be_asked_are_listed_when_asked_for(sentinel, config):
    """With the reason, as in a scan."""
    ran = sentinel("check", config(GOOD), "--elsewhere", "--verbose")

    assert "not evaluated, table 'tensors' is not known: " in ran.out


def test_what_it_begins_from_is_judged_too(sentinel, write, config):
    """A faulty adapter under a good configuration is exit code 1, and is shown as a scan does."""
    write.trainer("out/checkpoint-20", up=float("nan"))
    text = "model_name_or_path: b\nfinetuning_type: lora\nbf16: true\n"
    begins = config(f"{text}adapter_name_or_path: out/checkpoint-20\n", "train.yaml")
    ran = sentinel("check", begins, "--elsewhere")

    assert ran.code == 1
    first, second, *_ = ran.out.splitlines()
    assert first.startswith("healthy     train.yaml")
    assert "faulty      out/checkpoint-20" in second
    assert "nan-values" in second


def test_an_own_rule_is_asked(sentinel, config, here):
    """`--rules` and the settings file change what is asked, as in a scan."""
    (here / "sentinel.yaml").write_text("rules: {fp16-adapter-configured: off}\n")

    assert sentinel("check", config(BAD), "--elsewhere").code == 0


def test_a_name_cannot_steer_the_terminal(sentinel, config):
    """What a configuration says is shown, not obeyed."""
    ran = sentinel("check", config({**GOOD, "base_model_name": "a\x1b[31mb"}), "--elsewhere")

    assert "\x1b" not in ran.out
    assert "a\\x1b[31mb" in ran.out


# -- doctor --


def test_doctor_tells_the_machine(sentinel):
    """Device, versions, room, and whether anything is known to go wrong."""
    ran = sentinel("doctor")

    assert ran.code == 0
    for title in ("device", "versions", "room"):
        assert f"\n{title}\n" in f"\n{ran.out}"
    assert "\nnumpy " in ran.out
    assert max(map(len, ran.out.splitlines())) < 300


def test_doctor_says_where_state_lies(sentinel, here):
    """The options and the settings file decide, as for `watch` and `run`."""
    (here / "sentinel.yaml").write_text("state: mine\n")
    ran = sentinel("doctor", "--log", "elsewhere")

    assert f"{here / 'mine'} (" in ran.out
    assert "elsewhere (" in ran.out


def test_doctors_json_is_what_its_schema_says(sentinel):
    """One object, for a bug report or a fleet."""
    found = json.loads(sentinel("doctor", "--format", "json").out)

    jsonschema.validate(found, json.loads((DOCS / "doctor.schema.json").read_text()))
    assert found["versions"]["numpy"]
    assert found["python"]["path"] is None


def test_doctor_asks_another_interpreter(sentinel):
    """Here: the same one, named."""
    found = json.loads(sentinel("doctor", "--format", "json", "--python", sys.executable).out)

    assert found["python"]["path"] == sys.executable
    assert found["versions"]["numpy"]


def test_doctor_names_a_known_fault(sentinel, here):
    """A finding of a rule about versions is exit code 1."""
    rule = """
id: numpy-known
title: A library is there
scope: run
severity: warning
safety: likely
since: 0.2.0
page: {what: a, why: b, fix: c}
query: SELECT value FROM config WHERE name = 'versions.numpy'
when: value <> ''
message: numpy is there; nothing to do
examples:
  - {name: there, fires: true, tables: {config: [{name: versions.numpy, value: '2'}]}}
  - {name: not, fires: false, tables: {config: [{name: versions.torch, value: '2'}]}}
"""
    (here / "rule.yaml").write_text(rule)
    (here / "sentinel.yaml").write_text("rules: {paths: [rule.yaml]}\n")
    ran = sentinel("doctor")

    assert ran.code == 1
    assert "warning  numpy-known: numpy is there; nothing to do" in ran.out
