from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sentinel.alerting import Metrics, Notify, Tracker
from sentinel.config import Config, RuleSettings, default_state_dir, load_config, parse_config
from sentinel.errors import ConfigError
from sentinel.supervision import ExitCodes, Hook, filled

FULL = """\
state: state
log: /var/log/sentinel
baseline: accepted.json
rules:
  paths: [mine, ~/rules]
  off: [loss-zero]
  severity: {mixed-dtypes: info}
  parameters:
    norm-explosion: {limit: 3.5, strict: true}
  exclude:
    loss-zero: ["scratch/*"]
policy: report
act_on: [norm-explosion]
settle_s: 5
torn_after_s: 60
verdict_timeout_s: 10
max_attempts: 2
grace_s: 1.5
backoff_s: 0.5
backoff_max_s: 8
fail_on: suspect
hang_after_s: 900
hang: restart
hooks:
  - {pid_file: train.pid, process: train.py, kill_after_s: 30, below: out}
  - {command: [scancel, "4711"], timeout_s: 5, max_age_s: 60, again_after_s: 6}
exit_codes: {ended_faulty: 90, gave_up: 93, stopped_by_policy: 0}
pin: false
pin_dir: pins
pin_budget: 1.5TB
pin_count: 1
nice: 15
ionice: idle
max_read_rate: 200MB
metrics: {port: 9911, address: 0.0.0.0, file: node/sentinel.prom}
notify:
  urls: ["json://${HOOK}", "mailto://u:p@example.org"]
  events: [faulty, gave_up]
  group_s: 5
  per_hour: 3
  title: "{run} {occasion}"
  template: "{what}"
  picture: false
  timeout_s: 4.5
trackers:
  - tensorboard
  - {to: wandb, directory: wb, project: cats, group: g}
  - {to: mlflow, uri: "http://h", run_id: r}
"""
FILE = Path("/u/sentinel.yaml")


def test_a_rules_settings_may_stand_under_its_id():
    """`norm-explosion: {ratio: 20}` is the same as naming it in each list."""
    short = """
rules:
  norm-explosion: {ratio: 20, severity: critical, exclude: ["scratch/*"]}
  mixed-dtypes: off
  loss-zero: {severity: info}
  off: [stalled-updates]
"""
    assert parse_config(short, FILE).rules == RuleSettings(
        off=("stalled-updates", "mixed-dtypes"),
        severity={"norm-explosion": "critical", "loss-zero": "info"},
        parameters={"norm-explosion": {"ratio": 20}},
        exclude={"norm-explosion": ("scratch/*",)},
    )


def test_a_wrong_value_under_a_rules_id_is_named_with_its_line():
    """The line is the rule's own, not that of the list it goes to."""
    with pytest.raises(ConfigError, match=r"in '/u/sentinel\.yaml:2': it should be 'critical'"):
        parse_config("rules:\n  loss-zero: {severity: grave}\n", FILE)


def test_without_a_file_the_defaults_hold(tmp_path):
    """No sentinel.yaml is no error; an empty one is the same."""
    assert load_config(None, tmp_path) == Config()
    assert parse_config("# nothing yet\n", FILE) == Config()
    assert (Config().settle_s, Config().max_attempts, Config().policy) == (2.0, 4, "auto")


def test_everything_can_be_set(tmp_path):
    """Each setting arrives; relative paths count from the file, not from where one stands."""
    file = tmp_path / "project" / "sentinel.yaml"
    file.parent.mkdir()
    file.write_text(FULL)

    config = load_config(Path("project/sentinel.yaml"), tmp_path)

    assert config == Config(
        state=file.parent / "state",
        log=Path("/var/log/sentinel"),
        baseline=file.parent / "accepted.json",
        rules=RuleSettings(
            paths=(file.parent / "mine", Path("~/rules").expanduser()),
            off=("loss-zero",),
            severity={"mixed-dtypes": "info"},
            parameters={"norm-explosion": {"limit": 3.5, "strict": True}},
            exclude={"loss-zero": ("scratch/*",)},
        ),
        policy="report",
        act_on=("norm-explosion",),
        settle_s=5.0,
        torn_after_s=60.0,
        verdict_timeout_s=10.0,
        max_attempts=2,
        grace_s=1.5,
        backoff_s=0.5,
        backoff_max_s=8.0,
        fail_on="suspect",
        hang_after_s=900.0,
        hang="restart",
        hooks=(
            Hook(
                pid_file=file.parent / "train.pid",
                process="train.py",
                kill_after_s=30.0,
                below=file.parent / "out",
            ),
            Hook(command=("scancel", "4711"), timeout_s=5.0, max_age_s=60.0, again_after_s=6.0),
        ),
        exit_codes=ExitCodes(ended_faulty=90, gave_up=93, stopped_by_policy=0),
        pin=False,
        pin_dir=file.parent / "pins",
        pin_budget=1_500_000_000_000,
        pin_count=1,
        nice=15,
        ionice="idle",
        max_read_rate=200_000_000,
        metrics=Metrics(port=9911, address="0.0.0.0", file=file.parent / "node" / "sentinel.prom"),
        notify=Notify(
            urls=("json://${HOOK}", "mailto://u:p@example.org"),
            events=("faulty", "gave_up"),
            group_s=5.0,
            per_hour=3,
            title="{run} {occasion}",
            template="{what}",
            picture=False,
            timeout_s=4.5,
        ),
        trackers=(
            Tracker(to="tensorboard"),
            Tracker(to="wandb", directory=file.parent / "wb", project="cats", group="g"),
            Tracker(to="mlflow", uri="http://h", run_id="r"),
        ),
    )
    assert load_config(None, file.parent) == config


def test_this_file_sets_every_setting():
    """The example above is complete: a new setting must be added to it."""
    data = yaml.safe_load(FULL.replace("off:", '"off":'))

    assert set(data) == set(Config.model_fields)
    assert set(data["rules"]) == set(RuleSettings.model_fields)
    assert {name for hook in data["hooks"] for name in hook} == set(Hook.model_fields)
    assert set(data["exit_codes"]) == set(ExitCodes.model_fields)
    assert set(data["metrics"]) == set(Metrics.model_fields)
    assert set(data["notify"]) == set(Notify.model_fields)
    given = [one for one in data["trackers"] if isinstance(one, dict)]
    assert {name for one in given for name in one} == set(Tracker.model_fields)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("policy: auto\nsettle: 3", "'settle' in '{file}:2': there is no such setting; did you"),
        ("rules:\n  offf: []", "'rules.offf' in '{file}:2': there is no such setting; did you"),
        ("xyzzy: 1", "'xyzzy' in '{file}:1': there is no such setting; known are act_on,"),
        ("3: 4", "'3' in '{file}:1': "),
        ("policy: off", "'policy' in '{file}:1': it should be 'auto', 'report' or 'stop'"),
        ("fail_on: healthy", "'fail_on' in '{file}:1': it should be 'suspect' or 'faulty'"),
        ("settle_s: -1", "'settle_s' in '{file}:1': it should be greater than 0, not -1"),
        ("settle_s: .nan", "'settle_s' in '{file}:1': it should be a finite number, not nan"),
        ("settle_s: true", "'settle_s' in '{file}:1': it should be a valid number, not True"),
        ("settle_s: '3'", "'settle_s' in '{file}:1': it should be a valid number, not '3'"),
        ("max_attempts: 2.5", "'max_attempts' in '{file}:1': it should be a valid integer"),
        ("state: 3", "'state' in '{file}:1': it should be a path, not 3"),
        ("act_on: dead", "'act_on' in '{file}:1': it should be a list, not 'dead'"),
        (
            "rules:\n  severity:\n    a: info\n    b: bad",
            "'rules.severity.b' in '{file}:4': it should be 'critical'",
        ),
        (
            "rules:\n  parameters:\n    a: {b: [1]}",
            "'rules.parameters.a.b' in '{file}:3': it should be a number, a text",
        ),
        ("policy: auto\npolicy: stop", "'policy' in '{file}:2': it is given twice; keep one"),
        ("- a", "configuration in '{file}:1': it should hold names and values"),
        ("a: [", "configuration in '{file}:1': not YAML: "),
        ("a: !!python/object:os.system {}", "configuration in '{file}:1': not YAML: "),
        ("hooks: [{}]", "'hooks.0' in '{file}:1': it should have one of 'pid_file' and 'command'"),
        ("hooks:\n- {pid_file: a}", "'hooks.0' in '{file}:2': it should have 'process', words of"),
        (
            "hooks:\n- {command: [a], kill_after_s: 3}",
            "'hooks.0' in '{file}:2': 'process' and 'kill_after_s' should stand beside a 'pid",
        ),
        (
            "hooks:\n- {comand: [a]}",
            "'hooks.0.comand' in '{file}:2': there is no such setting; did",
        ),
        ("hooks:\n- {command: scancel 3}", "'hooks.0.command' in '{file}:2': it should be a list"),
        (
            "hooks:\n- command: [a, '{chekpoint}']",
            "'hooks.0' in '{file}:2': '{{chekpoint}}' should be one of checkpoint, directory, ",
        ),
        (
            "hooks:\n- command: [sh, -c, 'rm {checkpoint}']",
            "'{{checkpoint}}' should be an argument of its own (in a script: $SENTINEL_CHECKPOINT)",
        ),
        ("exit_codes: {gave_up: 256}", "'exit_codes.gave_up' in '{file}:1': it should be less"),
        ("exit_codes: {gave_up: 70}", "'exit_codes' in '{file}:1': they should be three different"),
        ("exit_codes: {gave_up: 143}", "143 should keep its meaning: 2 a wrong call, 3 a bug,"),
        ("hang_after_s: 0", "'hang_after_s' in '{file}:1': it should be greater than 0, not 0"),
        ("hang: kill", "'hang' in '{file}:1': it should be 'report' or 'restart', not 'kill'"),
        (
            "notify: {template: '{run} {wat}'}",
            "'notify.template' in '{file}:1': '{{wat}}' is no field of a message (perhaps '{{wh",
        ),
        ("notify:\n  events: [fault]", "'notify.events.0' in '{file}:2': it should be 'faulty'"),
        ("trackers: [tensorbord]", "'trackers.0.to' in '{file}:1': it should be 'tensorboard',"),
        ("trackers: [{to: wandb, projekt: a}]", "'trackers.0.projekt' in '{file}:1': there is no"),
        ("metrics: {prt: 1}", "'metrics.prt' in '{file}:1': there is no such setting; did"),
        ("metrics: {port: 65536}", "'metrics.port' in '{file}:1': it should be less than or"),
        ("[" * 5000, "configuration in '{file}': it is nested too deep"),
        ("x: &a {y: *a}", "'x' in '{file}:1': there is no such setting"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_line(text, sentence):
    """What is wrong, where, and the nearest right name where there is one."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, FILE)

    assert sentence.format(file=FILE) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_was_named_must_be_there(tmp_path):
    """Only the default one may be missing; a directory or bytes are errors too."""
    (tmp_path / "latin1.yaml").write_bytes(b"state: caf\xe9")

    for name in ("gone.yaml", ".", "latin1.yaml"):
        with pytest.raises(ConfigError, match="configuration"):
            load_config(Path(name), tmp_path)


def test_a_config_does_not_change():
    """Flags make a copy, they never edit what others hold."""
    config = Config()

    changed = config.model_copy(update={"settle_s": 1.0})

    assert (config.settle_s, changed.settle_s) == (2.0, 1.0)
    with pytest.raises(ValueError, match="frozen"):
        config.settle_s = 1.0


NAMES = st.sampled_from([*Config.model_fields, *RuleSettings.model_fields]) | st.text()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    max_leaves=6,
)


@given(st.text() | st.dictionaries(NAMES, VALUES).map(yaml.safe_dump))
def test_any_text_is_a_config_or_an_error(text):
    """No content of the file makes anything but a ConfigError that names the file."""
    try:
        config = parse_config(text, FILE)
    except ConfigError as error:
        named = str(FILE) in str(error)
    else:
        named = isinstance(config, Config)

    assert named


def test_state_has_a_place_without_being_asked():
    """The platform's directory for one user, named after the distribution."""
    assert default_state_dir().name == "checkpoint-sentinel"


def test_importing_settings_is_light():
    """Reading a configuration needs neither Parquet nor DuckDB nor a terminal."""
    heavy = "{'pyarrow', 'duckdb', 'rich', 'numpy', 'platformdirs'}"
    code = f"import sys, sentinel.config; print(sorted({heavy} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@given(st.text(), st.dictionaries(st.sampled_from(["checkpoint", "rule", "step"]), st.text()))
def test_one_argument_stays_one_and_nothing_else_is_filled(value, values):
    """What a placeholder brings is never looked at again, whatever it holds."""
    assert filled("{checkpoint}", {"checkpoint": value}) == value
    assert filled("{}${x}{y", values) == "{}${x}{y"


@pytest.mark.parametrize("amount", ["much", "-1GB", "1e3", "", "true", "[1]", "1.5", "5 miles"])
def test_an_amount_that_is_none_is_refused(amount):
    """A budget that is silently another one would be worse than none."""
    with pytest.raises(ConfigError, match=r"amount such as 20GB|should be"):
        parse_config(f"pin_budget: {amount}\n", FILE)


def test_a_rate_of_nothing_is_refused():
    """Nothing would ever be judged."""
    with pytest.raises(ConfigError, match="max_read_rate"):
        parse_config("max_read_rate: 0MB\n", FILE)


@pytest.mark.parametrize(
    ("amount", "size_bytes"), [("0", 0), ("1000", 1000), ("20 GiB", 20 << 30), ("1.5kb", 1500)]
)
def test_an_amount_is_bytes_or_a_number_with_its_unit(amount, size_bytes):
    """GB counts in thousands and GiB in 1024, as the letters say."""
    assert parse_config(f"pin_budget: {amount}\n", FILE).pin_budget == size_bytes
