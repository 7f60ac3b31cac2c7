"""`sentinel show`: what a checkpoint is, from headers alone or with its numbers."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save_file

from sentinel.flow import inspect
from sentinel.reports.sections import render_sections
from sentinel.reports.show import Shown, show_sections


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
    assert "adapter.rank       4" in ran.out
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
