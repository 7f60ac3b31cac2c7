"""`sentinel repair` and `sentinel undo`: told first, done on demand, taken away again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

SCHEMA = Path(__file__).parents[2] / "docs" / "repair.schema.json"
WEIGHTS = "adapter_model.safetensors"
COPY = Path("out-repaired/checkpoint-20")


def everything(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_nothing_is_written_before_it_is_asked_for(sentinel, write, here):
    """What would be: place, sizes, dtypes, files, and the command that does exactly that."""
    path = write.trainer("out/checkpoint-20")
    before = everything(here)

    ran = sentinel("repair", path, "--cast", "bf16")

    lines = ran.out.splitlines()
    assert lines[0].startswith(f"would write {COPY} (3 files, ")
    assert "weights  F32   BF16  2        192" in lines
    assert any(line.startswith(f"{WEIGHTS} ") and " cast " in line for line in lines)
    assert (ran.code, ran.err, everything(here)) == (0, "", before)

    words = shlex.split(lines[lines.index("to write it") + 1])
    assert words[0] == "sentinel"
    done = sentinel(*words[1:])
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0].startswith(f"wrote {COPY} (3 files, ")
    assert (here / COPY / WEIGHTS).exists()
    assert {key: everything(here)[key] for key in before} == before


def test_undo_is_told_and_takes_all_of_it_away(sentinel, write, here):
    """By the command that the repair shows."""
    path = write.trainer("out/checkpoint-20")
    before = everything(here)
    ran = sentinel("repair", path, "--cast", "bf16", "--apply")
    lines = ran.out.splitlines()
    command = lines[lines.index("to take it away again") + 1]

    told = sentinel(*shlex.split(command)[1:], "--dry-run")
    assert told.out.splitlines()[0] == f"would take away 3 files in {COPY}"
    assert (here / COPY).exists()
    done = sentinel(*shlex.split(command)[1:])

    assert done.out.splitlines()[0] == f"took away 3 files in {COPY}"
    assert (done.code, done.err) == (0, "")
    assert everything(here) == before
    assert not (here / "out-repaired").exists()


def test_undo_tells_what_stays(sentinel, write, here):
    """Exit code 1, and each file with the reason."""
    sentinel("repair", write.trainer("out/checkpoint-20"), "--cast", "bf16", "--apply")
    (here / COPY / "trainer_state.json").write_text("{}")
    (here / COPY / "mine.txt").write_text("mine")

    ran = sentinel("undo", COPY)

    assert ran.code == 1
    assert "trainer_state.json  changed since it was written" in ran.out
    assert "mine.txt            came in addition" in ran.out


def test_json_is_the_plan_and_then_the_receipt(sentinel, write, here):
    """The same object, with digests and the receipt's place once it is written."""
    path = write.trainer("out/checkpoint-20")
    arguments = ("repair", path, "--cast", "bf16", "--format", "json")

    plan = json.loads(sentinel(*arguments).out)
    receipt = json.loads(sentinel(*arguments, "--apply").out)

    assert (plan["written"], receipt["written"]) == (False, True)
    assert plan["target"] == receipt["target"] == str(here / COPY)
    assert plan["receipt"] is None
    assert receipt["receipt"] == str(here / COPY / "sentinel-repair.json")
    assert all(not file["sha256"] for file in plan["files"].values())
    for told in (plan, receipt):
        jsonschema.validate(told, json.loads(SCHEMA.read_text(encoding="utf-8")))
    kept = json.loads(Path(receipt["receipt"]).read_text())
    assert {key: receipt[key] for key in receipt.keys() & kept.keys()} == {
        key: kept[key] for key in receipt.keys() & kept.keys()
    }


def test_keys_are_renamed_and_the_first_are_listed(sentinel, here):
    """A wrapper is taken out of twelve keys, ten of which are shown."""
    names = [f"module.base_model.model.l.{n}.lora_{side}.weight" for n in range(6) for side in "AB"]
    (here / "a").mkdir()
    save_file({name: np.ones((2, 2), "f4") for name in names}, here / "a" / WEIGHTS)
    (here / "a/adapter_config.json").write_text('{"peft_type": "LORA", "r": 2}')

    ran = sentinel("repair", "a", "--rename-keys", "auto", "--apply")

    assert "keys       12 tensors renamed" in ran.out
    assert "renamed keys (the first 10 of 12)" in ran.out
    assert "dtypes" not in ran.out
    found = load_file(here / "a-repaired" / WEIGHTS)
    assert set(found) == {name.removeprefix("module.") for name in names}
    again = sentinel("repair", "a-repaired", "--rename-keys", "auto")
    assert again.out == "nothing to change in a-repaired: it is so already\n"
    assert again.code == 0


def test_a_cast_that_loses_values_is_refused_until_told(sentinel, write):
    """One line with the share, the tensor and the way out; then it is listed."""
    path = write.trainer("out/checkpoint-20", up=1e-9)

    ran = sentinel("repair", path, "--cast", "fp16", "--apply")

    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert "64 of 192 in the weights (33.3 %) would become zero, first in" in ran.err
    assert not COPY.exists()
    told = sentinel("repair", path, "--cast", "fp16", "--allow-loss")
    assert "values that are lost" in told.out
    assert "weights  zero    64 of 192" in told.out
    assert "--allow-loss --apply" in told.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "asks for no change"),
        (("--optimizer", "cast"), "name --cast too"),
        (("--rename-keys", "x"), "is neither 'auto' nor OLD=NEW"),
        (("--cast", "bf16", "--to", "out/checkpoint-21"), "lies beside the original"),
        (("--cast", "fp8"), "fp8"),
    ],
)
def test_wrong_wishes_are_one_line(sentinel, write, arguments, said):
    """Exit code 2, nothing on standard output."""
    path = write.trainer("out/checkpoint-20")

    ran = sentinel("repair", path, *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1


def test_torn_missing_and_unknown_checkpoints_are_one_line(sentinel, write, here):
    """In one sentence each."""
    write.torn("cut/checkpoint-60")
    write.plain("who-knows.safetensors")

    for path, said in (
        ("cut/checkpoint-60", "is not whole"),
        ("who-knows.safetensors", "layout 'unknown' is not rewritten"),
        ("nowhere", "does not exist"),
    ):
        ran = sentinel("repair", path, "--cast", "bf16", "--apply")
        assert (ran.code, ran.out) == (2, "")
        assert said in ran.err
        assert len(ran.err.splitlines()) == 1
    assert sentinel("undo", "nowhere").code == 2
    assert sorted(path.name for path in here.iterdir()) == ["cut", "who-knows.safetensors"]


def test_names_cannot_steer_the_terminal(sentinel, here):
    """A key with an escape sequence is shown escaped."""
    (here / "a").mkdir()
    names = ("module.q\x1b[31m.lora_A.weight", "module.q\x1b[31m.lora_B.weight")
    save_file({name: np.ones((2, 2), "f4") for name in names}, here / "a" / WEIGHTS)
    (here / "a/adapter_config.json").write_text('{"peft_type": "LORA", "r": 2}')

    ran = sentinel("repair", "a", "--rename-keys", "auto")

    assert ran.code == 0
    assert "\x1b" not in ran.out
    assert "q\\x1b[31m" in ran.out
