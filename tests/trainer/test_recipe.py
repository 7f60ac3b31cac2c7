"""A recipe is refused in one sentence before any model is loaded, or means what it says."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

GOOD = {
    "output_dir": "out",
    "base": {"model": "some/model"},
    "data": {"files": ["python-stdlib:abc.py"]},
    "training": {"steps": 10},
}


@pytest.fixture
def refusal(part, tmp_path, capsys):
    """Return the one line said about a recipe, and hold that it ends with exit code 2."""

    def call(content, *options):
        path = tmp_path / "recipe.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        assert part("main").main([str(path), *options]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert len(told.err.splitlines()) == 1
        return told.err

    return call


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("training.stepz=3", "unknown key 'training.stepz'; did you mean 'steps'?"),
        ("bases.model=x", "unknown key 'bases'; did you mean 'base'?"),
        ("training.steps=many", "'training.steps' is 'many'"),
        ("adapter.rank=0", "'adapter.rank' is 0"),
        ("adapter.dtype=int8", "'adapter.dtype' is 'int8'"),
        ("base.double_quant=true", "double_quant needs quantization nf4"),
        ("training.warmup_steps=3", "warmup_steps has no effect on scheduler constant"),
        ("num_labels=2", "num_labels has no effect on task causal-lm"),
        ("task=sequence-classification", "needs num_labels"),
        ("training.eval_every=5", "training.eval_every needs data.eval_files"),
        ("training.optimizer.args={lr: 1}", "args.lr is set by training.learning_rate"),
        ("training.optimizer.args={eps: .inf}", "leave it out"),
        ("data.files=nowhere/*.txt", "nothing there"),
        ("nonsense", "is not of the form section.key=value"),
        ("data.files=[", "option --set data.files=["),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(refusal, option, said):
    assert said in refusal(GOOD, "--set", option)


def test_what_is_missing_is_named_with_the_way_to_add_it(refusal):
    said = refusal({key: value for key, value in GOOD.items() if key != "base"})
    assert "'base' is missing; add it to the recipe or pass --set base=..." in said


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "a: [", "\x00"])
def test_a_file_that_is_no_recipe_is_refused(refusal, content):
    assert "recipe.yaml'" in refusal(content)


def test_adafactor_with_its_own_rate_excludes_another(refusal):
    options = ("training.optimizer={name: adafactor, args: {relative_step: true}}",)
    said = refusal(GOOD, "--set", *options, "--set", "training.learning_rate=1e-3")
    assert "learning_rate has no effect" in said


@pytest.mark.parametrize("name", ["gone", "."])
def test_a_resume_needs_a_checkpoint(refusal, tmp_path, name):
    assert "adapter_model.safetensors is missing" in refusal(GOOD, "--resume", str(tmp_path / name))


def test_the_plan_writes_nothing_and_resolves_paths(part, tmp_path, capsys, monkeypatch):
    """Files count from the recipe's directory, the output from the current one."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("a")
    (tmp_path / "sub" / "model").mkdir()
    settings = GOOD | {"data": {"files": "a.txt"}, "base": {"model": "model"}}
    (tmp_path / "sub" / "recipe.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(tmp_path)
    options = ["--print-plan", "--set", "training.learning_rate=1e-6"]
    assert part("main").main(["sub/recipe.yaml", *options]) == 0
    plan = yaml.safe_load(capsys.readouterr().out)
    assert plan["data"]["files"] == [str(tmp_path / "sub" / "a.txt")]
    assert plan["base"]["model"] == str(tmp_path / "sub" / "model")
    assert plan["output_dir"] == str(tmp_path / "out")
    assert float(plan["training"]["learning_rate"]) == 1e-6
    assert not (tmp_path / "out").exists()


def test_a_refusal_needs_no_torch(package, tmp_path):
    """A fresh interpreter refuses a recipe without loading what takes seconds."""
    code = (
        f"import sys; from {package}.main import main; code = main(['{tmp_path}/none.yaml']);"
        "sys.exit(99 if {'torch', 'transformers', 'peft'} & sys.modules.keys() else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr


def test_one_argument_of_the_optimizer_leaves_the_others(part):
    """An option that names one argument changes that one; a whole mapping replaces them all."""
    recipes = part("recipe_file")
    settings = {"training": {"optimizer": {"args": {"eps": 1e-4, "scale_parameter": True}}}}
    for option in ("scale_parameter=false", "relative_step=false"):
        settings = recipes.with_option(settings, f"training.optimizer.args.{option}")
    replaced = recipes.with_option(settings, "training.optimizer.args={eps: 1}")

    args = settings["training"]["optimizer"]["args"]
    assert args == {"eps": 1e-4, "scale_parameter": False, "relative_step": False}
    assert replaced["training"]["optimizer"]["args"] == {"eps": 1}


def bundled(part):
    """The recipes a user begins from: not the demo's, not those that fail."""
    directory = part("bundled").DIRECTORY
    return [path for path in sorted(directory.glob("*.yaml")) if not path.name.startswith("demo")]


def test_the_recipes_to_begin_from_lack_only_what_is_the_users(part, tmp_path):
    """A base, a place and data; without them they are refused with what to pass."""
    recipes = part("recipe_file")
    (tmp_path / "data.jsonl").write_text("{}")
    options = ["output_dir=out", "base.model=some/model", f"data.files={tmp_path}/data.jsonl"]
    names = []
    for path in bundled(part):
        settings = recipes.read_settings(path)
        with pytest.raises(part("errors").RefusedError, match="is missing; add it"):
            recipes.check(settings, path.name)
        for option in [*options, *(["num_labels=2"] if path.stem == "classification" else [])]:
            settings = recipes.with_option(settings, option)
        names.append(path.stem)
        recipe = recipes.check(settings, path.name)
        assert recipe.adapter.dtype == "fp32"
        assert part("data.files").find_files(recipe.data)
    assert names == ["classification", "qlora-bf16", "qlora-fp16", "standard-library"]


def test_the_bundled_recipes_are_listed_with_what_they_are_for(part, capsys):
    with pytest.raises(SystemExit) as ended:
        part("main").main(["--recipes"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("qlora-bf16.yaml  QLoRA of a model" in line for line in lines)
    failures = Path(str(files(part("main").__package__) / "recipes" / "failures"))
    listed = {Path(line.split()[0]).name for line in lines if "/failures/" in line}
    assert listed == {path.name for path in failures.glob("*.yaml")} - {"index.yaml"}


def test_the_recipe_of_the_readme_is_taken(part):
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    section = text.partition("## The bundled trainer")[2]
    recipe = section.partition("```yaml\n")[2].partition("```")[0]
    assert len(recipe.splitlines()) <= 15
    part("recipe_file").check(yaml.safe_load(recipe), "README")


def test_an_argument_that_is_not_there_is_not_inherited(part):
    """Another optimizer takes neither the arguments nor the rate of the one before."""
    start = part("start")
    before = {"training": {"optimizer": {"name": "adafactor", "args": {"eps2": 1}}}}
    before["training"]["learning_rate"] = 1e-3
    checkpoint = start.Checkpoint(Path("x"), 1, 1, before, None, has_optimizer=True)
    merged = start.inherit({"training": {"optimizer": {"name": "lion"}}}, checkpoint)
    assert merged["training"] == {"learning_rate": None, "optimizer": {"name": "lion", "args": {}}}
