"""Every recipe of a failure fails as it says, sentinel names it, and its twin is healthy."""

from __future__ import annotations

from importlib.resources import files

import pytest
import yaml

import sentinel

pytestmark = pytest.mark.trainer

STORIES = {1, 2, 3, 4, 5}
HERE = ("recipes", "failures")


def directory():
    package = "sentinel_trainer" if find_package("sentinel_trainer") else "trainer"
    return files(package).joinpath(*HERE)


def find_package(name):
    from importlib.util import find_spec  # noqa: PLC0415 - at collection, before any fixture

    return find_spec(name) is not None


INDEX = yaml.safe_load((directory() / "index.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def grown_base(part, tmp_path_factory):
    """A tiny Llama that was pre-trained: gradients of random weights fail in their own ways."""
    out = tmp_path_factory.mktemp("grown")
    part("tiny_base").build(out, steps=150)
    return out


@pytest.fixture
def play(part, grown_base):
    """Train a recipe of the directory and return what sentinel says of each checkpoint."""

    def call(name, out, *options):
        path = str(directory() / f"{name}.yaml")
        place = ("--set", f"base.model={grown_base}", "--set", f"output_dir={out}")
        quiet = ("--set", "training.tensorboard=false")
        assert part("main").main([path, *place, *quiet, *options]) == 0
        return list(sentinel.scan(out, settle_s=0))

    return call


def names_in(judged):
    return {finding.rule for each in judged for finding in each.verdict.findings}


def levels_in(judged):
    return {each.verdict.level for each in judged}


def test_the_index_tells_of_every_recipe_and_every_story():
    recipes = {path.name.removesuffix(".yaml") for path in directory().iterdir()}
    assert recipes - {"index", "lines.jsonl"} == set(INDEX)
    assert {entry.get("story") for entry in INDEX.values()} >= STORIES
    catalogue = {rule.id for rule in sentinel_rules()}
    assert {rule for entry in INDEX.values() for rule in entry["named"]} <= catalogue


def sentinel_rules():
    from sentinel.rules.load import load_rules  # noqa: PLC0415 - one test asks for them

    return load_rules()


@pytest.mark.parametrize("name", INDEX)
def test_every_recipe_is_sound_with_and_without_its_remedy(part, name):
    recipes = part("recipe_file")
    settings = recipes.read_settings(directory() / f"{name}.yaml")
    for option in ("output_dir=out", "base.model=some/model"):
        settings = recipes.with_option(settings, option)
    failing = recipes.check(settings, name)
    assert part("data.files").find_files(failing.data)
    for option in INDEX[name].get("healthy", ()):
        settings = recipes.with_option(settings, option)
    assert recipes.check(settings, name) != failing or "then" in INDEX[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", INDEX)
def test_sentinel_names_the_fault_and_calls_the_twin_healthy(play, tmp_path, name):
    entry = INDEX[name]
    bad, good = tmp_path / "bad", tmp_path / "good"
    if "then" in entry:
        judged, twin = start_again(play, entry["then"], name, bad, good)
    else:
        judged = play(name, bad)
        words = [word for option in entry["healthy"] for word in ("--set", option)]
        twin = play(name, good, *words)
    assert names_in(judged) & set(entry["named"]), names_in(judged)
    assert levels_in(twin) == {"healthy"}, names_in(twin)


def start_again(play, then, name, bad, good):
    """Go on from the named step in the run's own directory, with the harm and without."""
    play(name, bad)
    play(name, good)
    step = then["step"]
    judged = play(name, bad, "--resume", str(bad / f"checkpoint-{step}"), *then["harm"])
    return judged, play(name, good, "--resume", str(good / f"checkpoint-{step}"))
