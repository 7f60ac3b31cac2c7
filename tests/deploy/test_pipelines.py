"""The pre-commit hook and the GitHub Action, on repositories with healthy and faulty adapters."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import yaml

from sentinel.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
HOOKS = ROOT / ".pre-commit-hooks.yaml"
ACTION = ROOT / "action.yml"
PAGE = ROOT / "docs" / "pipelines.md"
TIMEOUT_S = 250

pytestmark = pytest.mark.skipif(os.name != "posix", reason="shells and hooks of POSIX")


@dataclass(frozen=True)
class Repository:
    """A repository of somebody's, and the environment in which its pipeline runs."""

    root: Path
    environment: dict[str, str]

    def call(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=self.root,
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def add(self, path: str, content: bytes) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        assert self.call("git", "add", path).returncode == 0


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    programs = tmp_path / "bin"
    programs.mkdir()
    command = programs / "sentinel"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sentinel "$@"\n')
    command.chmod(0o755)
    root = tmp_path / "theirs"
    root.mkdir()
    environment = dict(os.environ)
    environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    environment |= {"PRE_COMMIT_HOME": str(tmp_path / "cache"), "GIT_CONFIG_NOSYSTEM": "1"}
    made = Repository(root, environment)
    assert made.call("git", "init", "-q", ".").returncode == 0
    made.call("git", "config", "user.email", "somebody@example.org")
    made.call("git", "config", "user.name", "Somebody")
    return made


# -- the page --


def blocks(kind: str) -> list[str]:
    """The blocks of one language on the page."""
    page = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)


def commands() -> list[list[str]]:
    """Every call of sentinel that the page shows, in whichever language."""
    text = PAGE.read_text(encoding="utf-8")
    calls = re.findall(
        r"^[^`\n]*?(sentinel (?:scan|check) [^\n']*?)(?: \|\| .*|')?$", text, re.MULTILINE
    )
    return [shlex.split(one) for one in calls]


def test_the_page_shows_calls_that_are_taken(tmp_path, monkeypatch):
    """Each call on the page is one that the command takes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").touch()
    called = commands()

    assert len(called) >= 6
    for _, name, *words in called:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        command.make_context(name, words)


@pytest.mark.parametrize(
    ("says", "schema"), [("runs-on", "vendor.github-workflows"), ("artifacts", "vendor.gitlab-ci")]
)
def test_the_page_shows_pipelines_of_the_right_form(tmp_path, says, schema):
    """GitHub's and GitLab's schemas take what is to be copied."""
    pytest.importorskip("check_jsonschema")
    (text,) = [one for one in blocks("yaml") if says in one]
    file = tmp_path / "pipeline.yml"
    file.write_text(text)

    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, file],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout


def test_the_page_shows_a_configuration_of_pre_commit(tmp_path):
    """pre-commit's own reader takes it, and the hooks it names are there."""
    pytest.importorskip("pre_commit")
    (text,) = [one for one in blocks("yaml") if "repos:" in one]
    file = tmp_path / "config.yaml"
    file.write_text(text)

    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", file],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    (named,) = yaml.safe_load(text)["repos"][0]["hooks"]
    assert named["id"] in {one["id"] for one in yaml.safe_load(HOOKS.read_text("utf-8"))}


def test_the_page_tells_the_inputs_of_the_action():
    """Each input stands in its table with its default."""
    page = PAGE.read_text(encoding="utf-8")
    inputs = yaml.safe_load(ACTION.read_text(encoding="utf-8"))["inputs"]

    for name, one in inputs.items():
        (line,) = [row for row in page.splitlines() if row.startswith("|") and f"`{name}`" in row]
        assert not one["default"] or f"`{one['default']}`" in line


# -- pre-commit --


@pytest.fixture
def hooks(repository: Repository, tmp_path: Path) -> Path:
    """A repository that holds the hooks, as a tag of ours would."""
    pytest.importorskip("pre_commit")
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / HOOKS.name).write_bytes(HOOKS.read_bytes())
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "hooks"]):
        told = ["-c", "user.email=a@example.org", "-c", "user.name=A"]
        done = subprocess.run(
            ["git", *told, *words],
            cwd=ours,
            env=repository.environment,
            check=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0
    return ours


def try_repo(repository: Repository, hooks: Path, hook: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "pre_commit", "try-repo", str(hooks), hook]
    return repository.call(*words, "--all-files", "--verbose")


def test_the_hook_stops_what_is_faulty(repository, hooks, saves):
    """A commit of a faulty adapter is refused with the finding; a healthy one passes."""
    repository.add("adapters/good.safetensors", saves.single(400))
    passed = try_repo(repository, hooks, "sentinel-scan-system")
    repository.add("adapters/bad.safetensors", saves.single(400, nan=True))
    failed = try_repo(repository, hooks, "sentinel-scan-system")

    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "Passed" in passed.stdout
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "adapters/bad.safetensors" in failed.stdout
    assert "nan-values" in failed.stdout


def test_the_hook_is_silent_about_other_files(repository, hooks):
    """A commit without a checkpoint waits for no scan."""
    repository.add("README", b"no adapter\n")

    done = try_repo(repository, hooks, "sentinel-scan-system")

    assert (done.returncode, "Skipped" in done.stdout) == (0, True)


@pytest.mark.slow
def test_the_hook_brings_its_own_sentinel(repository, saves):
    """Without one on the path pre-commit installs it from the repository (needs an index)."""
    pytest.importorskip("pre_commit")
    repository.add("bad.safetensors", saves.single(400, nan=True))

    done = try_repo(repository, ROOT, "sentinel-scan")

    assert done.returncode == 1, done.stdout + done.stderr
    assert "nan-values" in done.stdout


def test_both_hooks_do_the_same():
    """They differ in where the program comes from, and in nothing else."""
    first, second = yaml.safe_load(HOOKS.read_text(encoding="utf-8"))

    apart = {"id", "description", "language"}
    assert {key: first[key] for key in first.keys() - apart} == {
        key: second[key] for key in second.keys() - apart
    }


# -- the action --


def steps() -> dict[str, dict[str, object]]:
    action = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    return {step["name"]: step for step in action["runs"]["steps"]}


def test_the_action_keeps_its_schema():
    """GitHub's schema of an action has nothing to say against it."""
    pytest.importorskip("check_jsonschema")
    words = ["--builtin-schema", "vendor.github-actions", str(ACTION)]
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *words],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", [name for name, step in steps().items() if "run" in step])
def test_the_shell_lines_are_sound(name, tmp_path):
    """shellcheck finds no mistake, and nothing a caller gives is pasted into a script."""
    linter = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("shellcheck is not installed")
    run = str(steps()[name]["run"])
    script = tmp_path / "step.sh"
    script.write_text(f"#!/usr/bin/env bash\nset -eo pipefail\n{run}")

    done = subprocess.run(
        [linter, script], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )

    assert "${{" not in run
    assert (done.returncode, done.stdout) == (0, "")


def act(repository: Repository, **inputs: str) -> tuple[int, str, dict[str, str], str]:
    """Run the steps `Scan` and `Judge` as the runner does; the code, what was said, outputs."""
    temporary = repository.root.parent
    files = {name: temporary / name for name in ("output", "summary")}
    for file in files.values():
        file.unlink(missing_ok=True)
        file.touch()
    told = {"paths": ".", "fail-on": "faulty", "base": "", "baseline": ""} | inputs
    given = {f"SENTINEL_{name.upper().replace('-', '_')}": value for name, value in told.items()}
    bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
    done = repository.call(
        *bash,
        str(steps()["Scan"]["run"]),
        **given,
        SENTINEL="sentinel",
        RUNNER_TEMP=str(temporary),
        GITHUB_OUTPUT=str(files["output"]),
        GITHUB_STEP_SUMMARY=str(files["summary"]),
    )
    assert done.returncode == 0, done.stderr
    outputs = dict(line.split("=", 1) for line in files["output"].read_text().splitlines())
    judged = repository.call(
        *bash,
        str(steps()["Judge"]["run"]),
        SENTINEL_CODE=outputs["exit-code"],
        SENTINEL_FAIL_ON=told["fail-on"],
        SENTINEL_SARIF=outputs.get("sarif-file", ""),
    )
    return judged.returncode, done.stdout, outputs, files["summary"].read_text()


def test_the_action_reports_and_fails(repository, saves):
    """A faulty adapter: annotation, summary, SARIF, and the code of the scan."""
    repository.add("a b/bad one.safetensors", saves.single(400, nan=True))
    repository.add("good.safetensors", saves.single(400))

    code, said, outputs, summary = act(repository, paths="a b\n\ngood.safetensors\n")

    assert (code, outputs["exit-code"]) == (1, "1")
    assert said.startswith("::error file=a b/bad one.safetensors,title=nan-values")
    assert summary.startswith("### Sentinel: 1 faulty, 1 healthy")
    (run,) = json.loads(Path(outputs["sarif-file"]).read_text())["runs"]
    assert [one["ruleId"] for one in run["results"]] == ["nan-values"]


def test_the_action_on_good_and_on_lenient_terms(repository, saves):
    """What is good passes; `never` lets a fault pass, but not a call that was wrong."""
    repository.add("good.safetensors", saves.single(400))
    assert act(repository)[0] == 0

    repository.add("bad.safetensors", saves.single(400, nan=True))
    code, said, outputs, _ = act(repository, **{"fail-on": "never"})
    assert (code, outputs["exit-code"]) == (0, "1")
    assert "::error " in said
    assert act(repository, **{"fail-on": "never", "paths": "nothing-there"})[0] == 2


def test_an_input_is_no_script(repository, saves):
    """What a caller gives as a path is a path, whatever a shell would make of it."""
    repository.add("good.safetensors", saves.single(400))

    code, *_ = act(repository, paths="$(touch owned); touch owned `touch owned`")

    assert code == 2
    assert not (repository.root / "owned").exists()
