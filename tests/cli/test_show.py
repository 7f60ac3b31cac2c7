"""`sentinel show`: what a checkpoint is, from headers alone or with its numbers."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save_file

from sentinel.flow import inspect
from sentinel.reports.sections import render_sections
from sentinel.reports.show import Shown, show_sections

SCHEMA = Path(__file__).parents[2] / "docs" / "show.schema.json"


def facts(text: str) -> dict[str, str]:
    """The first lines of the output, name by name."""
    lines = text.split("\n\n", maxsplit=1)[0].splitlines()
    return {line[:14].strip(): line[14:].strip() for line in lines}


def test_the_facts_come_first(sentinel, write):
    """Layout, trainer, step, size, dtypes and roles, one a line."""
    path = write.trainer("out/checkpoint-20")

    ran = sentinel("show", path)

    told = facts(ran.out)
    assert told["layout"] == "transformers-trainer"
    assert told["step"] == "20"
    assert told["parameters"] == "192 in 2 tensors"
    assert told["dtypes"] == "2 F32"
    assert told["roles"] == "1 lora_down, 1 lora_up"
    assert "adapter    lora, alpha 8, init default, rank 4" in ran.out
    assert (ran.code, ran.err) == (0, "")


def test_the_only_checkpoint_below_a_directory_is_meant(sentinel, write):
    """Nobody has to spell the last folder; with two of them the choice is the user's."""
    write.trainer("out/checkpoint-20")
    assert facts(sentinel("show", "out").out)["step"] == "20"

    write.trainer("out/checkpoint-40")
    ran = sentinel("show", "out")
    assert (ran.code, ran.out) == (2, "")
    assert "more than one checkpoint" in ran.err


def test_modules_are_told_with_their_norms(sentinel, here):
    """Rank, alpha, scale, both norms and that of the product are what NumPy computes."""
    draw = np.random.default_rng(0)
    down, up = draw.normal(size=(4, 32)).astype("f4"), draw.normal(size=(16, 4)).astype("f4")
    tensors = {
        "lora_unet_q.lora_down.weight": down,
        "lora_unet_q.lora_up.weight": up,
        "lora_unet_q.alpha": np.array(2, "f4"),
    }
    save_file(tensors, here / "cat.safetensors", {"ss_network_module": "networks.lora"})

    ran = sentinel("show", "cat.safetensors", "--modules", "--format", "json")

    (row,) = json.loads(ran.out)["modules"]
    assert (row["rank"], row["alpha"], row["scale"]) == (4, 2, 0.5)
    assert row["norm"] == pytest.approx(np.linalg.norm(0.5 * up.astype("f8") @ down), rel=1e-6)
    text = sentinel("show", "cat.safetensors", "--modules").out
    assert f"{row['norm']:.3g}" in text.splitlines()[-1]


def test_what_was_not_asked_for_has_no_key(sentinel, write):
    """Weights are read only where numbers are wanted."""
    path = write.trainer("out/checkpoint-20")

    bare = json.loads(sentinel("show", path, "--format", "json").out)
    full = json.loads(
        sentinel("show", path, "--modules", "--tensors", "--meta", "--format", "json").out
    )

    assert set(full) - set(bare) == {"modules", "effects", "tensors", "metadata"}
    assert len(full["tensors"]) == 2
    for shown in (bare, full):
        jsonschema.validate(shown, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_metadata_is_shown_whole_in_json_and_short_in_text(sentinel, here):
    """What a trainer wrote into the header; long values are cut where a person reads."""
    metadata = {"ss_network_module": "networks.lora", "ss_tag_frequency": "cat " * 1000}
    save_file({"w": np.ones(4, "f4")}, here / "cat.safetensors", metadata)

    ran = sentinel("show", "cat.safetensors", "--meta", "--format", "json")
    assert json.loads(ran.out)["metadata"] == {"cat.safetensors": metadata}
    text = sentinel("show", "cat.safetensors", "--meta").out
    assert "(4,000 characters)" in text
    assert max(map(len, text.splitlines())) < 500


def test_a_torn_checkpoint_is_shown_as_far_as_it_goes(sentinel, write):
    """What is known is told, what is wrong beside it, and the exit code says so."""
    ran = sentinel("show", write.torn("cut/checkpoint-60"), "--modules", "--tensors")

    assert facts(ran.out)["step"] == "60"
    assert "truncated-file" in ran.out
    told = json.loads(sentinel("show", "cut/checkpoint-60", "--format", "json").out)
    jsonschema.validate(told, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert (ran.code, ran.err) == (2, "")


@pytest.mark.parametrize("width", [80, 120])
def test_everything_fits_a_terminal(here, width):
    """Long names are folded, numbers stay whole."""
    name = "layers.11.a_rather_long_name_of_a_block.self_attn.q_proj"
    draw = np.random.default_rng(0)
    tensors = {
        f"{name}.lora_A.weight": draw.normal(size=(4, 32)).astype("f4"),
        f"{name}.lora_B.weight": draw.normal(size=(16, 4)).astype("f4"),
    }
    save_file(tensors, here / "x.safetensors", {"note": "a long text " * 20})
    found = inspect(here / "x.safetensors")
    numbers = found.measured
    shown = Shown(found.checkpoint, numbers.pairs, numbers.effects, numbers.tensors, {})
    out = io.StringIO()
    render_sections(
        tuple(show_sections(shown, here)),
        Console(file=out, width=width, force_terminal=True, color_system=None, highlight=False),
    )

    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert any("lora_up" in line and "16x4" in line for line in lines)


def test_names_cannot_steer_the_terminal(sentinel, here):
    """Tensors, metadata and settings with escape sequences are shown escaped."""
    tensors = {"w\x1b[31m": np.ones(4, "f4")}
    save_file(tensors, here / "a.safetensors", {"k\x1b[2J": "v\x1b[2J"})

    ran = sentinel("show", "a.safetensors", "--tensors", "--meta")

    assert "\x1b" not in ran.out
    assert "w\\x1b[31m" in ran.out
    assert "v\\x1b[2J" in ran.out


def test_settings_are_grouped_and_listed_by_name_when_asked_for(sentinel, here):
    """A line a kind without switches that are off; --meta gives every name as the page has it."""
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_optimizer": "AdamW",
        "ss_learning_rate": "0.001",
        "ss_full_fp16": "False",
    }
    save_file({"lora_unet_q.alpha": np.array(2, "f4")}, here / "cat.safetensors", metadata)

    grouped = sentinel("show", "cat.safetensors").out.splitlines()
    assert "optimizer  adamw, learning_rate 0.001" in grouped
    assert not any("full_fp16" in line for line in grouped)
    listed = sentinel("show", "cat.safetensors", "--meta").out
    assert "precision.full_fp16      false" in listed


def test_wrappers_in_the_names_are_named(sentinel, here):
    """What a loader would not expect in a key, in the order a key has it."""
    tensors = {
        "module._orig_mod.q.lora_A.default.weight": np.ones((2, 4), "f4"),
        "module._orig_mod.q.lora_B.default.weight": np.ones((4, 2), "f4"),
        "module._orig_mod.q.base_layer.weight": np.ones((4, 4), "f4"),
    }
    save_file(tensors, here / "x.safetensors")

    told = facts(sentinel("show", "x.safetensors").out)

    assert told["names wrapped"] == "with module., _orig_mod., base_layer., default."


@pytest.mark.trainer
def test_optimizer_state_and_base_are_told(sentinel, here, write):
    """Steps, rates, the files of a resume, a broken one among them, and what the base is."""
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.ones(4, 4))
    optimizer = torch.optim.AdamW([weight], lr=3e-4)
    for _ in range(2):
        weight.grad = torch.ones(4, 4)
        optimizer.step()
    path = write.trainer("out/checkpoint-20")
    torch.save(optimizer.state_dict(), path / "optimizer.pt")
    torch.save(torch.amp.GradScaler("cpu", init_scale=8.0).state_dict(), path / "scaler.pt")
    (path / "rng_state.pth").write_bytes(b"PK\3\4 cut")
    base = here / "base"
    base.mkdir()
    save_file({"q_proj.weight": np.ones((4, 6), "f4")}, base / "model.safetensors")
    (base / "config.json").write_text('{"dtype": "float32"}')

    ran = sentinel("show", path, "--base", base)

    told = facts(ran.out)
    expected = "state of 1 parameter in 1 group, step 2, lr 0.0003, eps 1e-08, weight_decay 0.01"
    assert told["optimizer"] == expected
    assert told["base"] == "base: not quantised, computes in fp32, 1 weight"
    assert "rng_state.pth (broken)" in told["state"]
    assert "scaler_scale 8" in ran.out
    assert ran.code == 2
    as_json = json.loads(sentinel("show", path, "--base", base, "--format", "json").out)
    jsonschema.validate(as_json, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert (as_json["optimizer"]["steps"], as_json["state_is_whole"]) == ([2.0, 2.0], False)
    assert math.isclose(as_json["optimizer"]["groups"][0]["lr"], 3e-4)


def test_a_base_that_is_elsewhere_is_named(sentinel, write):
    path = write.trainer("out/checkpoint-20")
    config = json.loads((path / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "someone/a-model"
    (path / "adapter_config.json").write_text(json.dumps(config))

    assert facts(sentinel("show", path).out)["base"] == "someone/a-model (not on this machine)"


def test_modules_without_effect_are_marked(sentinel, here):
    """Beside those that do something, with the range of their changes above."""
    tensors = {}
    for name, size in (("q", 1.0), ("v", 0.0)):
        tensors[f"base_model.model.{name}.lora_A.weight"] = np.ones((2, 4), "f4")
        tensors[f"base_model.model.{name}.lora_B.weight"] = np.full((4, 2), size, "f4")
    save_file(tensors, here / "x.safetensors")

    lines = sentinel("show", "x.safetensors", "--modules").out.splitlines()

    assert "modules with up and down: 2, change 0 to 8" in lines
    assert lines[-1].startswith("v ")
    assert lines[-1].endswith("no effect")
