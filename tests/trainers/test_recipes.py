"""What must hold of every trainer's recipe: recognised, changed as its own parser takes it, read
again with the new values."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from commands import RECIPES, command_of, plan_of, recipe_of
from laying import facts_of

from sentinel.formats.configs.registry import read_command, read_config
from sentinel.repairs.asking import asked_of
from sentinel.repairs.compose import Composed, compose
from sentinel.repairs.documents import read_document
from sentinel.repairs.invocation import recognise, take_apart
from sentinel.repairs.recipes import Recipe, Route

GOLDENS = Path(__file__).parent / "goldens"
TRAINERS = (
    *("ai-toolkit", "axolotl", "diffusers", "llama-factory", "minicpm-v", "musubi-tuner"),
    *("onetrainer", "sd-scripts", "simpletuner", "transformers"),
)
ROUTES = ("drop", "keep", "restart")
CHANGES = {
    "optimizer.args.scale_parameter": False,
    "optimizer.args.relative_step": False,
    "optimizer.learning_rate": 0.0002,
    "scheduler.name": "constant",
}


def told(recipe: Recipe) -> dict[str, object]:
    """The changes of CHANGES that a trainer can be told."""
    return {name: value for name, value in CHANGES.items() if recipe.change_of(name)}


def composed(trainer: str, place: Path, route: str = "drop", **parts: object) -> Composed:
    """A trainer's command composed for a plan, its copies below `state`."""
    command = command_of(trainer, place)
    parts |= {"target": None, "target_path": None} if route == "restart" else {}
    optimizer = "keep" if route == "keep" else "drop"
    plan = plan_of(trainer, place, optimizer=optimizer, **parts)
    return compose(recipe_of(trainer), command, plan, cwd=place, place=place / "state")


def changed(trainer: str, place: Path, route: str = "drop", **parts: object) -> Composed:
    """Everything changed at once: precision, forward pass and settings."""
    facts = {"precision": "bf16", "compute": "bf16", "settings": told(recipe_of(trainer))}
    return composed(trainer, place, route, **(facts | parts))


def routes(trainer: str) -> list[str]:
    resume = recipe_of(trainer).resume
    return [route for route in ROUTES if isinstance(getattr(resume, route), Route)]


CASES = [(trainer, route) for trainer in TRAINERS for route in routes(trainer)]


# -- recognised -----------------------------------------------------------------------------------


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_trainers_usual_command_is_recognised(trainer: str, tmp_path: Path):
    """Each usual command is its own trainer's, and tells where its checkpoints will lie."""
    command = command_of(trainer, tmp_path)

    found = recognise(command, RECIPES, tmp_path)

    assert found is recipe_of(trainer)
    assert asked_of(found, command, tmp_path).output is not None


@pytest.mark.parametrize(
    ("command", "trainer"),
    [
        ("python -m axolotl.cli.train cat.yml", "axolotl"),
        ("accelerate launch -m axolotl.cli.train cat.yml", "axolotl"),
        ("torchrun --nproc_per_node 2 train.py --output_dir out --fp16 --optim adafactor", None),
        ("deepspeed --num_gpus 2 train.py --output_dir out --bf16 --optim adamw_torch", None),
        ("python -m torch.distributed.run train.py --output_dir o --bf16 --optim sgd", None),
        ("./finetune_lora.sh", "minicpm-v"),
        ("./run-cmd.sh train --config-path train.json", "onetrainer"),
        ("bash -x finetune_lora.sh", "minicpm-v"),
        ("/opt/venv/bin/simpletuner train --env cat", "simpletuner"),
        ("llamafactory-cli train --stage sft --model_name_or_path m --dataset d", "llama-factory"),
        ("accelerate launch sdxl_train_network.py --config_file=cat.toml", "sd-scripts"),
    ],
)
def test_a_trainer_is_recognised_behind_its_launchers(
    command: str, trainer: str | None, tmp_path: Path
):
    """Launchers, modules, paths and scripts change nothing about whose command it is."""
    for name in TRAINERS:
        command_of(name, tmp_path)
    (tmp_path / "run-cmd.sh").write_text('source lib.sh\nrun_python "scripts/${1}.py" "$@"\n')

    found = recognise(shlex.split(command), RECIPES, tmp_path)

    assert found is not None
    assert found.id == (trainer or "transformers")


# -- composed -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trainer", "route"), CASES, ids=["-".join(case) for case in CASES])
def test_the_composed_start(trainer: str, route: str, tmp_path: Path, update_goldens: bool):  # noqa: FBT001 - a fixture's name
    """Command, copy and difference to the user's configuration, reviewed as text."""
    made = changed(trainer, tmp_path, route)
    lines = [shlex.join(made.command)]
    lines += [f"{name}={value}" for name, value in sorted(made.environment.items())]
    if made.copied:
        left = f" without {', '.join(made.copied.leave_out)}" if made.copied.leave_out else ""
        lines.append(f"copy {made.copied.source} to {made.copied.within}{left}")
    text = "\n".join([*lines, made.diff]).replace(str(tmp_path), "").rstrip() + "\n"
    golden = GOLDENS / f"{trainer}-{route}.txt"
    if update_goldens:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text, encoding="utf-8")

    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize(("trainer", "route"), CASES, ids=["-".join(case) for case in CASES])
def test_what_is_read_again_has_the_new_values(trainer: str, route: str, tmp_path: Path):
    """Changed, written, read by the trainer's own reader: every changed setting is as planned."""
    recipe, made = recipe_of(trainer), changed(trainer, tmp_path, route)
    for path, text in made.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    again = asked_of(recipe, made.command, tmp_path)

    for name, value in told(recipe).items():
        assert again.settings[name] == value, name
    assert again.settings["precision.training"] == "bf16"
    assert again.output is not None
    assert again.output.is_relative_to(tmp_path / "fresh" / "2")


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_fp16_is_left(trainer: str, precision: str, tmp_path: Path):
    """In whatever precision it goes on: what was fp16 is fp16 no more."""
    recipe = recipe_of(trainer)
    made = composed(trainer, tmp_path, "restart", precision=precision, compute=precision)
    for path, text in made.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    settings = asked_of(recipe, made.command, tmp_path).settings

    assert settings.get("precision.training", "fp32") == precision
    assert settings.get("precision.adapter", "fp32") in {precision, "fp32"}
    assert settings.get("precision.fp16") is not True


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_users_files_are_not_touched(trainer: str, tmp_path: Path):
    """Composing writes nothing; preparing writes below the state and the fresh directory only."""
    command_of(trainer, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    made = changed(trainer, tmp_path, "restart")

    made.prepare()

    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before.keys()
    assert {path: path.read_bytes() for path in before} == before
    assert written == set(made.files)
    assert made.fresh is not None
    assert list(made.fresh.iterdir()) == []


@pytest.mark.parametrize("trainer", TRAINERS)
def test_composing_twice_is_composing_once(trainer: str, tmp_path: Path):
    """The same plan gives the same start, so it may be made again after a kill."""
    first = changed(trainer, tmp_path, "restart")
    first.prepare()

    assert changed(trainer, tmp_path, "restart") == first


# -- as the trainers' own parsers take it ---------------------------------------------------------


def written(trainer: str, place: Path) -> dict[str, object]:
    """Every field that any of the recipe's changes sets, with the value it gets last."""
    found: dict[str, object] = {}
    recipe = recipe_of(trainer)
    for route in routes(trainer):
        for precision in ("fp32", "bf16"):
            made = changed(trainer, place, route, precision=precision, compute=precision)
            for path, text in made.files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            now = take_apart(recipe, made.command, place)
            for name in _names(recipe):
                if now.is_told(name):
                    found[f"{name}#{route}#{precision}"] = now.value(name)
    return found


def _names(recipe: Recipe) -> set[str]:
    resume = recipe.resume
    tables = [*recipe.precision.values(), *recipe.compute.values()]
    tables += [route.fields for route in (resume.keep, resume.drop, resume.restart) if route]
    names = {name.removesuffix("?") for table in tables for name in table}
    for setting, change in recipe.settings.items():
        last = "scale_parameter" if setting.endswith("*") else ""
        names |= {change.field.replace("{name}", last), *change.also}
    return names | ({recipe.output.field} if recipe.output else set())


def _choices(known: Mapping[str, list[Any]]) -> Callable[[str, object], bool]:
    """Tell whether a parser of options (kind, default, choices) takes a value."""

    def takes(name: str, value: object) -> bool:
        kind, _default, *choices = known[f"--{name}"]
        if choices and str(value) not in {str(choice) for choice in choices[0]}:
            return False
        if kind == "flag":
            return isinstance(value, bool)
        if kind in {"int", "float"}:
            float(str(value))
        return True

    return takes


def test_onetrainer_takes_what_is_written(tmp_path: Path):
    """Every field is one of `TrainConfig` or its parts, every enum's value one of the enum."""
    accepts = facts_of("onetrainer")["accepts"]
    parts = {"optimizer": accepts["optimizer_fields"]}
    for name, value in written("onetrainer", tmp_path).items():
        field = name.partition("#")[0]
        part, dot, inner = field.rpartition(".")
        known = parts.get(part, accepts["part_fields"]) if dot else accepts["fields"]
        assert inner in known, field
        enum = accepts["enums"].get(str(known[inner]).removesuffix("?"))
        assert enum is None or value in enum, (field, value)
    options = accepts["arguments"]["scripts/train.py"]
    assert {"--config-path", "--config-value"} <= options.keys()


def test_simpletuner_takes_what_is_written(tmp_path: Path):
    """Every field is an argument of its parser, every value one of its choices."""
    takes = _choices(facts_of("simpletuner")["accepts"]["arguments"]["train"])

    for name, value in written("simpletuner", tmp_path).items():
        assert takes(name.partition("#")[0], value), (name, value)


@pytest.mark.parametrize(
    ("trainer", "facts"), [("sd-scripts", "sd_scripts"), ("musubi-tuner", "musubi_tuner")]
)
def test_kohyas_trainers_take_what_is_written(trainer: str, facts: str, tmp_path: Path):
    """Every option is one of theirs, with their kind of value."""
    scripts = facts_of(facts)["options"]
    takes = _choices({name: kind for script in scripts.values() for name, kind in script.items()})

    for name, value in written(trainer, tmp_path).items():
        assert takes(name.partition("#")[0], value), (name, value)


def test_ai_toolkit_takes_what_is_written(tmp_path: Path):
    """Every field is one of its configuration classes; the folder is its process's own."""
    known = facts_of("ai_toolkit")["configuration"]
    for name in written("ai-toolkit", tmp_path):
        *_start, part, field = name.partition("#")[0].split(".")
        assert field == "training_folder" or field in known[part], name


def test_axolotl_takes_what_is_written(tmp_path: Path):
    """Every field is one of its schema."""
    known = facts_of("axolotl")["fields"]
    assert {name.partition("#")[0] for name in written("axolotl", tmp_path)} <= known.keys()


def test_transformers_takes_what_is_written(tmp_path: Path):
    """Its own parser takes the composed command; the precision is what was planned."""
    transformers = pytest.importorskip("transformers")
    arguments = list(changed("transformers", tmp_path).command[2:])
    own = ["--model_name_or_path", "base", "--dtype", "bfloat16"]
    for option in own[::2]:
        at = arguments.index(option)
        assert arguments[at + 1] == own[own.index(option) + 1]
        del arguments[at : at + 2]
    arguments += ["--use_cpu", "true"]  # where the suite runs

    parser = transformers.HfArgumentParser((transformers.TrainingArguments,))
    (parsed,) = parser.parse_args_into_dataclasses(arguments)

    assert (parsed.bf16, parsed.fp16, parsed.learning_rate) == (True, False, 0.0002)
    assert parsed.resume_from_checkpoint == str(tmp_path / "fresh" / "2" / "checkpoint-20")
    assert (
        parsed.optim_args == "eps=1e-6,betas=(0.9,0.99),scale_parameter=False,relative_step=False"
    )


@pytest.mark.parametrize(
    ("trainer", "facts"), [("llama-factory", "llama_factory"), ("minicpm-v", "minicpm_v")]
)
def test_the_relatives_take_what_is_written(trainer: str, facts: str, tmp_path: Path):
    """Every field is one of their argument classes or of the Trainer's."""
    trained = pytest.importorskip("transformers").TrainingArguments.__dataclass_fields__
    own = {field for fields in facts_of(facts)["arguments"].values() for field in fields}

    names = {name.partition("#")[0] for name in written(trainer, tmp_path)}
    assert names <= own | trained.keys()


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ("onetrainer", ["--config-value", "learning_rate=9", "--config-value=optimizer.eps=1e-6"]),
        ("onetrainer", ["--config-value=learning_rate=9", "--config-value=optimizer.eps=1e-6"]),
        ("llama-factory", ["learning_rate=9", "optimizer_eps=1e-6"]),
        ("axolotl", ["--learning_rate=9", "--optimizer_eps=1e-6"]),
    ],
)
def test_what_the_command_says_of_a_changed_field_is_left_out(trainer, words, tmp_path: Path):
    """It would win over the changed copy; what it says of other fields stays."""
    command = [*command_of(trainer, tmp_path), *words]
    plan = plan_of(trainer, tmp_path, settings={"optimizer.learning_rate": 0.0002})

    made = compose(recipe_of(trainer), command, plan, cwd=tmp_path, place=tmp_path / "state")

    told = " ".join(made.command)
    assert "learning_rate" not in told.replace("-", "_")
    assert "eps=1e-6" in told


# -- what cannot be changed -----------------------------------------------------------------------


def test_a_configuration_that_is_gone_is_said(tmp_path: Path):
    """A command that names a file which is not there is refused in one sentence."""
    command = command_of("onetrainer", tmp_path)
    (tmp_path / "train.json").unlink()

    with pytest.raises(Exception, match=r"train\.json.*cannot be read"):
        asked_of(recipe_of("onetrainer"), command, tmp_path)


def test_a_script_that_needs_its_own_place_is_not_copied(tmp_path: Path):
    """A script that looks beside itself would find nothing beside its copy."""
    command = command_of("minicpm-v", tmp_path)
    script = tmp_path / "finetune_lora.sh"
    script.write_text(script.read_text() + '\nsource "$(dirname "$0")/more.sh"\n')
    plan = plan_of("minicpm-v", tmp_path, target=None, target_path=None)

    with pytest.raises(Exception, match="looks for files beside itself"):
        compose(recipe_of("minicpm-v"), command, plan, cwd=tmp_path, place=tmp_path / "state")


def test_yaml_and_toml_copies_hold_what_the_original_held(tmp_path: Path):
    """What is not changed stays equal, in type and value."""
    for trainer in ("axolotl", "llama-factory", "ai-toolkit", "sd-scripts"):
        made = changed(trainer, tmp_path / trainer)
        ((path, text),) = made.files.items()
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
        before = take_apart(
            recipe_of(trainer), command_of(trainer, tmp_path / trainer), tmp_path / trainer
        )
        touched = {name.partition(".")[0] for name in _names(recipe_of(trainer))}
        after = read_document(path)
        for key, value in before.content.items():
            if key not in touched and not isinstance(value, dict):
                assert after[key] == value


def test_readers_of_configurations_agree_with_readers_of_commands(tmp_path: Path):
    """A copy is read as its trainer's by the reader that `sentinel check` uses."""
    for trainer in ("onetrainer", "axolotl", "sd-scripts"):
        made = changed(trainer, tmp_path)
        for path, text in made.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            assert read_config(path).trainer == trainer
        config = read_command(made.command, tmp_path)
        assert config is not None
        assert config.trainer == trainer
