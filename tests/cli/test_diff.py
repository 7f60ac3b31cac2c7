"""`sentinel diff`: what changed, in words and JSON, and an exit code for scripts."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
from safetensors.numpy import save_file

SCHEMA = Path(__file__).parents[2] / "docs" / "diff.schema.json"


def test_a_checkpoint_is_equal_to_itself(sentinel, write):
    """Nothing differs: exit code 0, and the sentence counts what was compared."""
    path = write.trainer("out/checkpoint-20")

    ran = sentinel("diff", path, path)

    assert ran.out.splitlines()[0] == "1 of 1 module unchanged"
    assert (ran.code, ran.err) == (0, "")


def test_what_changed_is_told_per_module(sentinel, here):
    """Changed modules with the range of their change; unchanged ones only counted."""
    before = {f"layers.{n}.weight": np.full((4, 4), 1, "f4") for n in range(4)}
    after = before | {
        "layers.1.weight": before["layers.1.weight"] * np.float32(1.5),
        "layers.2.weight": before["layers.2.weight"] * np.float32(3),
    }
    save_file(before, here / "a.safetensors")
    save_file(after, here / "b.safetensors")

    ran = sentinel("diff", "a.safetensors", "b.safetensors")

    lines = ran.out.splitlines()
    assert lines[0] == "2 of 4 modules changed by 50 to 200 %, 2 unchanged"
    assert any("layers.2" in line and "200 %" in line for line in lines)
    assert not any("layers.3" in line for line in lines)
    assert (ran.code, ran.err) == (1, "")


def test_json_lists_everything(sentinel, here):
    """Tensors of one side, other shapes and dtypes, and every module, as one object."""
    save_file({"w": np.ones(4, "f4"), "x": np.ones(2, "f4")}, here / "a.safetensors")
    save_file({"w": np.ones(4, "f2"), "y": np.ones(2, "f4")}, here / "b.safetensors")

    ran = sentinel("diff", "a.safetensors", "b.safetensors", "--format", "json")

    found = json.loads(ran.out)
    assert (found["only_in_a"], found["only_in_b"]) == (["x"], ["y"])
    (tensor,) = found["tensors"]
    assert tensor["dtype"] == {"a": "F32", "b": "F16"}
    assert (tensor["identical_count"], tensor["change_l2"]) == (4, 0.0)
    assert found["different"] is True
    assert ran.code == 1
    jsonschema.validate(found, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_progress_counts_as_a_difference(sentinel, write):
    """Two steps with the same weights are told apart by what else they say; nobody chose that."""
    first = write.trainer("out/checkpoint-20")
    second = write.trainer("out/checkpoint-40")
    weights = (first / "adapter_model.safetensors").read_bytes()
    (second / "adapter_model.safetensors").write_bytes(weights)

    ran = sentinel("diff", first, second)

    lines = ran.out.splitlines()
    assert lines[0] == "1 of 1 module unchanged from step 20 to 40"
    assert "progress" in lines
    assert "settings that differ" not in lines
    assert ran.code == 1


def test_a_setting_that_somebody_chose_is_told_apart(sentinel, write):
    """Another alpha is a setting, and the sentence counts it."""
    first = write.trainer("out/checkpoint-20")
    second = write.trainer("out/checkpoint-40")
    config = json.loads((second / "adapter_config.json").read_text())
    (second / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 32}))

    ran = sentinel("diff", first, second)

    assert ran.out.splitlines()[0].endswith("; 1 setting differs")
    assert "adapter.alpha  8  32" in ran.out


def test_what_cannot_be_compared_is_no_difference(sentinel, write):
    """A torn file, a directory of several checkpoints and a missing path: one line, code 2."""
    good = write.trainer("out/checkpoint-20")
    write.trainer("out/checkpoint-40")
    torn = write.torn("cut/checkpoint-60")

    for other, said in ((torn, "damaged"), ("out", "more than one"), ("no", "does not exist")):
        ran = sentinel("diff", good, other)
        assert (ran.code, ran.out) == (2, "")
        assert said in ran.err
        assert len(ran.err.splitlines()) == 1


def test_names_cannot_steer_the_terminal(sentinel, here):
    """A tensor's name with an escape sequence is shown escaped."""
    save_file({"w\x1b[31m": np.ones(4, "f4")}, here / "a.safetensors")
    save_file({"w\x1b[31m": np.zeros(4, "f4")}, here / "b.safetensors")

    ran = sentinel("diff", "a.safetensors", "b.safetensors")

    assert "\x1b" not in ran.out
    assert "w\\x1b[31m" in ran.out
