"""What holds for the whole house, whoever changes which room."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import click
import numpy as np
import pytest
from safetensors.numpy import save_file

import sentinel
from sentinel.cli.exit_codes import MEANINGS
from sentinel.cli.main import COMMANDS, cli
from sentinel.daemon.supervise import ENDED_FAULTY, GAVE_UP, STOPPED_BY_POLICY
from sentinel.errors import SentinelError

ROOT = Path(__file__).parents[1]
PACKAGE = Path(sentinel.__file__).parent
TRAINING_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
HEAVY = ("numpy", "pyarrow", "duckdb", "rich", "yaml", "pydantic")

SCAN = """
import sentinel
(found,) = sentinel.scan("cat.safetensors", settle_s=0)
assert found.verdict.level == "healthy", found.verdict
"""
HELP = """
from sentinel.cli.main import cli
cli.main(["--help"], standalone_mode=False)
"""
COMMAND = """
import pathlib, sys
from sentinel.rules import load
load.catalogue = lambda: pathlib.Path("catalogue")
from sentinel.cli.main import main
sys.argv = ["sentinel", "scan", "cat.safetensors"]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
"""
UNUSED = (
    "duckdb", "pydantic", "yaml", "difflib", "pandas", "email", "ssl", "http", "tempfile",
    "importlib.resources", "rich", "numpy.random", "pyarrow.parquet", "multiprocessing",
    *("sentinel.formats.containers." + name for name in (
        "dcp_metadata", "gguf", "npz", "plain_pickle", "tfevents", "torch_file", "zip_directory",
    )),
    "sentinel.formats.base", "sentinel.formats.quantized.stored",
)  # fmt: skip
"""What a scan of one safetensors file, without settings, in a pipe, has no use for."""

EVERYTHING = """
import importlib, pkgutil, sentinel
names = [module.name for module in pkgutil.walk_packages(sentinel.__path__, "sentinel.")]
assert len(names) > 50 and "sentinel.flow" in names, names
callbacks = {"sentinel.integrations.lightning", "sentinel.integrations.transformers"}
assert callbacks < set(names)
for name in set(names) - callbacks:  # they live in their host, which they import
    importlib.import_module(name)
assert sentinel.scan is sentinel.scanning.scan
assert sentinel.judge is sentinel.flow.judge
"""


def imported_after(program: str, directory: Path) -> set[str]:
    """The top-level modules that a fresh interpreter has imported when a program is over."""
    return {name.partition(".")[0] for name in modules_after(program, directory)}


def modules_after(program: str, directory: Path) -> set[str]:
    """Every module that a fresh interpreter has imported when a program is over."""
    tell = "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program + tell],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def adapter(tmp_path) -> Path:
    draw = np.random.default_rng(0)
    tensors = {
        "lora_unet_q.lora_down.weight": draw.uniform(-0.2, 0.2, (4, 32)).astype("f4"),
        "lora_unet_q.lora_up.weight": draw.normal(0, 0.01, (16, 4)).astype("f4"),
        "lora_unet_q.alpha": np.array(4, "f4"),
    }
    path = tmp_path / "cat.safetensors"
    save_file(tensors, path, {"ss_network_module": "networks.lora", "ss_steps": "400"})
    return path


def test_a_scan_imports_no_training_library(adapter):
    """Sentinel runs where torch is not installed, and beside a training it takes no room."""
    assert imported_after(SCAN, adapter.parent).isdisjoint(TRAINING_LIBRARIES)


def test_help_is_quick(tmp_path):
    """`sentinel --help` waits for nothing that only a scan needs."""
    imported = imported_after(HELP, tmp_path)

    assert "click" in imported
    assert imported.isdisjoint((*HEAVY, *TRAINING_LIBRARIES))


def test_a_start_imports_only_what_a_scan_needs(adapter):
    """A wheel's `sentinel scan` of one file, with the catalogue as a wheel has it."""
    (adapter.parent / "catalogue").mkdir()
    spec = spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    hook = module_from_spec(spec)
    spec.loader.exec_module(hook)
    hook.write_catalogue(ROOT, adapter.parent / "catalogue" / "rules.json")

    imported = modules_after(COMMAND, adapter.parent)

    assert "sentinel.flow" in imported
    assert imported & {*UNUSED, *TRAINING_LIBRARIES} == set()


def test_scan_is_always_the_function(tmp_path):
    """No module, once imported, takes the place of `sentinel.scan` or needs a training library."""
    assert imported_after(EVERYTHING, tmp_path).isdisjoint(TRAINING_LIBRARIES)


def test_what_python_offers_is_there():
    """Everything in `__all__` can be had, nothing else by accident."""
    assert all(hasattr(sentinel, name) for name in sentinel.__all__)
    with pytest.raises(AttributeError, match="no attribute 'scam'"):
        _ = sentinel.scam


# -- commands --


def commands(context: click.Context) -> Iterator[click.Context]:
    """Every command and group, the root too."""
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            member = context.command.get_command(context, name)
            yield from commands(click.Context(member, info_name=name, parent=context))


# With the command's own settings: click keeps the help option of the first context it meets.
TOP = click.Context(cli, info_name="sentinel", terminal_width=80, **cli.context_settings)
EVERY = list(commands(TOP))


@pytest.mark.parametrize("context", EVERY, ids=lambda context: context.command_path)
def test_every_command_and_option_has_help(context):
    """Nobody has to guess; and the help fits a terminal of 80 columns."""
    command = context.command

    assert command.help
    for option in command.params:
        assert isinstance(option, click.Argument) or option.help, option.name
    assert max(map(len, context.get_help().splitlines()), default=0) <= 80


def examples(context: click.Context) -> list[str]:
    """The lines of a command's own examples."""
    told = (context.command.help or "").partition("Examples:\n")[2].partition("\n\n")[0]
    return [line.strip() for line in told.splitlines() if line.strip()]


def parse(words: list[str]) -> None:
    """Take a command's words as click does, down to the last subcommand, and call nothing."""
    context = cli.make_context("sentinel", words)
    while isinstance(context.command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, member, rest = context.command.resolve_command(context, rest)
        assert member is not None, name
        context = member.make_context(name, rest, parent=context)


@pytest.mark.parametrize("context", EVERY, ids=lambda context: context.command_path)
def test_every_command_shows_examples_that_can_be_called(context, tmp_path, monkeypatch):
    """Each example is a call that click takes; files it names are made, nothing else is."""
    monkeypatch.chdir(tmp_path)
    lines = examples(context)

    assert lines
    for line in lines:
        # What stands behind two blanks says what the call is for; `> FILE` is the shell's.
        program, *words = shlex.split(re.split(r" {2,}| >>? ", line)[0])
        assert program == "sentinel"
        assert context.command is cli or line.startswith(context.command_path)
        for _ in words:
            try:
                parse(list(words))
            except click.BadParameter as error:
                (missing,) = re.findall(r"'([^']+)' does not exist", str(error))
                place = tmp_path / Path(missing)
                place.parent.mkdir(parents=True, exist_ok=True)
                if missing.endswith("/"):
                    place.mkdir()
                else:
                    place.touch()
            else:
                break
        else:
            pytest.fail(f"{line}: is not taken")


def test_every_command_is_listed():
    """A module of `sentinel.cli` with a command has its line in COMMANDS, and the reverse."""
    modules = {
        path.stem
        for path in (PACKAGE / "cli").glob("*.py")
        if "\ndef command(" in path.read_text(encoding="utf-8")
    }

    assert modules == set(COMMANDS)


# -- errors and exit codes --


def kinds(error: type[SentinelError]) -> Iterator[type[SentinelError]]:
    yield error
    for kind in error.__subclasses__():
        yield from kinds(kind)


@pytest.mark.parametrize("kind", list(kinds(SentinelError)), ids=lambda kind: kind.__name__)
def test_every_error_says_what_it_is_and_ends_with_a_known_code(kind):
    """No error of ours looks like a finding (1), a bug (3) or success."""
    assert kind.__doc__
    assert kind.exit_code == 2
    assert str(kind("file 'x'", where="in 'y'", fact="is gone", todo="look")) == (
        "file 'x' in 'y': is gone; look"
    )


def test_exit_codes_are_distinct():
    """A scheduler can tell every end of `sentinel run` from every other."""
    of_run = [ENDED_FAULTY, GAVE_UP, STOPPED_BY_POLICY]

    assert len({*MEANINGS, *of_run}) == len(MEANINGS) + len(of_run)
    assert (list(MEANINGS)[:5], of_run) == ([0, 1, 2, 3, 130], [70, 75, 76])


# -- sources --

SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is_for(path):
    """Only an empty `__init__.py` needs no words."""
    text = path.read_text(encoding="utf-8")

    assert ast.get_docstring(ast.parse(text)) or not text.strip()


def printers(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="print" | "exit")):
                yield node.lineno
            case ast.Attribute(value=ast.Name(id="sys"), attr="stdout" | "exit"):
                yield node.lineno


def test_only_the_command_line_prints_and_exits():
    """Everything else is given a console or a listener, or returns a value."""
    apart = {"engines/isolated_child.py"}  # a program of its own that talks over a pipe
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in SOURCES
        if path.parent.name != "cli" and str(path.relative_to(PACKAGE)) not in apart
        for line in printers(ast.parse(path.read_text(encoding="utf-8")))
    ]

    assert found == []


def test_nothing_asks_whether_it_runs_in_ci(adapter):
    """What holds in CI holds on a desk: the variable that CI sets changes nothing."""
    outputs = set()
    for told in ({"CI": "true", "GITHUB_ACTIONS": "true"}, {}):
        environment = {k: v for k, v in os.environ.items() if k not in {"CI", "GITHUB_ACTIONS"}}
        done = subprocess.run(
            [sys.executable, "-m", "sentinel", "scan", adapter.name, "--verbose"],
            cwd=adapter.parent,
            env=environment | told,
            capture_output=True,
            timeout=100,
            check=False,
        )
        outputs.add((done.returncode, done.stdout, done.stderr))

    assert len(outputs) == 1
    constants = {
        node.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert constants.isdisjoint({"CI", "GITHUB_ACTIONS"})


# -- the wheel --


def test_the_installed_wheel_is_what_is_tested():
    """Where the distribution is installed, `sentinel` comes from it and not from a checkout."""
    try:
        installed = importlib.metadata.distribution("checkpoint-sentinel")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not installed: the checkout is tested")
    if "PYTHONPATH" in os.environ:
        pytest.skip("PYTHONPATH chooses what is tested")
    assert installed.version == sentinel.__version__
    if any(file.parts[:1] == ("sentinel",) for file in installed.files or ()):
        assert Path(str(installed.locate_file("sentinel"))).resolve() == PACKAGE.resolve()
        assert (PACKAGE / "catalogue").is_dir()
        assert importlib.util.find_spec("sentinel_trainer") is not None


# -- the documentation --


def generated(directory: Path) -> dict[str, str]:
    subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", directory],
        env={**os.environ, "COLUMNS": "41"},
        check=True,
        timeout=100,
    )
    return {path.name: path.read_text(encoding="utf-8") for path in directory.iterdir()}


def test_the_generated_pages_are_up_to_date(tmp_path):
    """`python docs/generate.py` would change nothing, however wide the terminal is."""
    for name, text in generated(tmp_path).items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, f"run make docs: {name}"


def test_the_reference_tells_everything():
    """Every command, option and exit code stands on its page."""
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")

    for context in EVERY:
        if isinstance(context.command, click.Group):
            continue
        section = page.split(f"\n## {context.command_path}\n")[1].split("\n## ")[0]
        for option in context.command.params:
            if isinstance(option, click.Option):
                assert all(name in section for name in option.opts), option.name
    for code in (*MEANINGS, ENDED_FAULTY, GAVE_UP, STOPPED_BY_POLICY):
        assert f"\n| {code} | " in page


def test_the_page_of_exit_codes_is_whole():
    """Every code is on it, and what each command says of its own; no command says another."""
    page = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    known = {*MEANINGS, ENDED_FAULTY, GAVE_UP, STOPPED_BY_POLICY}

    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == known
    own = re.findall(r"^\[`(.+?)`\]\(cli\.md#.+?\): (.+)$", page, re.MULTILINE)
    assert {name for name, _ in own} == {
        one.command_path for one in EVERY if "Exit codes:" in (one.command.help or "")
    }
    for name, said in own:
        codes = {int(code) for code in re.findall(r"(?:^|, |or )(\d+) ", said)}
        assert codes <= known, name
