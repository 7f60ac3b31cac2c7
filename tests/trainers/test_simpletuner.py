"""SimpleTuner: its own files, laid out again from the facts, are understood down to each tensor."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from laying import facts_of, lay

from sentinel.formats.layouts.accelerate_parts import LORA_WEIGHTS
from sentinel.formats.opening import candidate_at, discover, is_complete, open_checkpoint
from sentinel.formats.simpletuner_config import settings_of
from sentinel.repairs.quarantine import DIRECTORY
from sentinel.stats.measure import measure

pytestmark = pytest.mark.trainer

ROLES = {
    "lora_A.weight": "lora_down",
    "lora_B.weight": "lora_up",
    "lora_down.weight": "lora_down",
    "lora_up.weight": "lora_up",
    "alpha": "alpha",
    "dora_scale": "magnitude",
    **{f"hada_{one}": "adapter" for one in ("w1_a", "w1_b", "w2_a", "w2_b")},
    **{f"lokr_{one}": "adapter" for one in ("w1", "w2", "w2_a", "w2_b")},
    "oft_blocks": "adapter",
    "diff": "adapter",
    "diff_b": "adapter",
}
"""What PEFT's and LyCORIS' adapters call their tensors, below a module's name."""
STANDARD = ("lora", "alpha", "gaussian", "pissa", "comfyui", "fp32")
LYCORIS = ("lora", "dora", "loha", "lokr", "lokr_full", "oft", "full")
NAME = "checkpoint-3"
HPARAMS = "logs/simpletuner/1767323045.5/hparams.yml"
GUARD = {"text": "complete\n"}


FACTS = facts_of("simpletuner")


def whole(files: Mapping[str, Any]) -> dict[str, Any]:
    """Files with the guard's text, of which the facts keep only the size."""
    guard = {name: GUARD for name, file in files.items() if name.endswith(".guard") and file}
    assert all(files[name] == {"size_bytes": len(GUARD["text"])} for name in guard)
    return {**files, **guard}


def assert_understood(path: Path, file: Mapping[str, Any]) -> None:
    """Every tensor has its role, module, shape and dtype."""
    found = {tensor.name: tensor for tensor in open_checkpoint(path).tensors}
    assert found.keys() == file["tensors"].keys()
    for key, (dtype, shape) in file["tensors"].items():
        tail = max((tail for tail in ROLES if key.endswith(f".{tail}")), key=len)
        tensor = found[key]
        expected = (key.removesuffix(f".{tail}"), ROLES[tail], dtype, tuple(shape), LORA_WEIGHTS)
        got = (tensor.module, tensor.role, tensor.dtype, tensor.shape, tensor.member)
        assert got == expected, key


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The checkpoint of a whole training; the configuration was written down before it."""
    files = whole(FACTS["run"]["files"])
    lay({HPARAMS: files[HPARAMS]}, tmp_path)
    os.utime(tmp_path / HPARAMS, ns=(0, 1_000_000_000))
    lay({name: file for name, file in files.items() if name != HPARAMS}, tmp_path)
    return tmp_path


def test_the_checkpoint_of_a_whole_run(run: Path) -> None:
    """Its tensors, step, settings and optimizer; the average that a resume takes is a part."""
    path = run / NAME
    found = open_checkpoint(path)

    assert (found.layout, found.trainer) == ("simpletuner", "simpletuner")
    assert (found.step, found.epoch, found.updates_done) == (3, 2.0, 3)
    assert (found.complete, found.faults) == (True, ())
    assert_understood(path, FACTS["run"]["files"][f"{NAME}/{LORA_WEIGHTS}"])
    expected = {
        "precision.adapter": "bf16",
        "precision.mixed": "bf16",
        "adapter.method": "lora",
        "adapter.rank": 4,
        "adapter.alpha": 4.0,
        "adapter.init": "default",
        "base.quantization": "no_change",
        "base.path": "toy",
        "base.version": "flux",
        "optimizer.name": "adamw_bf16",
        "optimizer.learning_rate": 1e-3,
        "scheduler.name": "constant",
        "versions.peft": FACTS["libraries"]["peft"],
    }
    assert expected.items() <= found.settings.items()
    assert {member.path: member.part for member in found.members} == {
        LORA_WEIGHTS: "weights",
        "optimizer.bin": "optimizer",
        "scheduler.bin": "state",
        "random_states_0.pkl": "state",
        "training_state.json": "state",
        "training_state-pictures.json": "state",
        "transformer_ema/ema_model.pt": "state",
        "checkpoint_manifest.json": "state",
        ".guard": "state",
    }
    [group] = found.optimizer.groups
    assert (group.settings["lr"], group.parameter_count) == (1e-3, len(found.tensors))
    assert all({"exp_avg", "shift"} <= one.tensors.keys() for one in found.optimizer.parameters)
    assert [candidate.path for candidate in discover(run)] == [path]


def test_a_checkpoint_is_complete_with_its_guard(tmp_path: Path) -> None:
    """In the order SimpleTuner wrote it; afterwards the epoch may be put into its state anew."""
    prefix = f"{NAME}/"
    files = whole(FACTS["run"]["files"])
    seen: dict[str, None] = {}
    told = []
    order = [line for line in FACTS["run"]["order"] if prefix in line]
    assert order[0] == f"remove {prefix}.guard"
    for at, line in enumerate(order[1:]):
        verb, before, *after = line.split(" ")
        seen.pop(before, None)
        seen[after[0] if verb == "rename" else before] = None
        root = tmp_path / str(at)
        lay({name: files.get(name, GUARD) for name in seen}, root)
        told.append(is_complete(candidate_at(root / prefix)))

    last = order.index(f"rename {prefix}.guard.tmp {prefix}.guard") - 1
    assert told == [False] * last + [True] * (len(order) - 1 - last)
    assert order[last + 2 :] == [f"write {prefix}training_state.json"]


def test_what_a_resume_would_not_notice_is_noticed(tmp_path: Path) -> None:
    """SimpleTuner's own check accepts the loss of most files; its manifest lists them."""
    lost = {case["without"] for case in FACTS["validity"] if case["valid"]} - {"", ".guard"}
    told = set()
    for name in sorted(lost - {"checkpoint_manifest.json"}):
        root = tmp_path / name.replace("/", "-")
        lay(whole(FACTS["run"]["files"]), root)
        (root / NAME / name).unlink()
        if open_checkpoint(root / NAME).faults:
            told.add(name)

    assert told == {
        "optimizer.bin",
        "scheduler.bin",
        "random_states_0.pkl",
        "training_state-pictures.json",
    }


@pytest.mark.parametrize("kind", STANDARD)
def test_pefts_lora(tmp_path: Path, kind: str) -> None:
    """What PEFT's initialisation left at zero is sentinel's zero side, and the scale is PEFT's."""
    case = FACTS["standard"][kind]
    lay(whole(case["files"]), tmp_path / NAME)

    found = open_checkpoint(tmp_path / NAME)

    file = case["files"][LORA_WEIGHTS]
    assert_understood(tmp_path / NAME, file)
    assert {one.name for one in found.tensors if one.zero_at_init} == set(case["zero_at_start"])
    pairs = measure(found, digest=False).pairs
    assert set(pairs.column("rank").to_pylist()) == {4}
    assert set(pairs.column("scale").to_pylist()) == {2.0 if kind == "alpha" else 1.0}
    assert found.settings["adapter.init"] == (kind if kind in {"gaussian", "pissa"} else "default")
    assert found.settings["precision.adapter"] == ("fp32" if kind == "fp32" else "bf16")
    assert (found.step, found.trainer, found.complete) == (3, "simpletuner", True)


def test_dora_does_not_start_in_simpletuner() -> None:
    """`--use_dora` asks PEFT for an initialisation that it does not have."""
    assert FACTS["standard"]["dora"] == {"given": {"use_dora": True}, "raises": "ValueError"}


@pytest.mark.parametrize("family", LYCORIS)
@pytest.mark.parametrize("beside", [True, False])
def test_lycoris(tmp_path: Path, family: str, *, beside: bool) -> None:
    """Each family's zero side is LyCORIS' own; its description lies beside the file and in it."""
    case = FACTS["lycoris"][family]
    files = {
        name: one for name, one in whole(case["files"]).items() if beside or "lycoris" not in name
    }
    lay(files, tmp_path / NAME)

    found = open_checkpoint(tmp_path / NAME)

    assert_understood(tmp_path / NAME, files[LORA_WEIGHTS])
    sides = {one.name for one in found.tensors if one.zero_at_init}
    # The alpha of its OFT is a constraint that may be zero: no side that training moves.
    assert sides == {name for name in case["zero_at_start"] if not name.endswith(".alpha")}
    method = {"dora": "lora", "lokr_full": "lokr"}.get(family, family)
    assert (found.adapter.family, found.adapter.dora) == (method, family == "dora")
    rows = measure(found, digest=False).effects.to_pylist()
    assert len(rows) == len({tensor.module for tensor in found.tensors})
    assert {row["starts_idle"] for row in rows} == {True}


def test_the_configuration_of_the_right_start(run: Path) -> None:
    """A start after the checkpoint was written is another attempt's."""
    later = run / "logs" / "simpletuner" / "1767400000.5" / "hparams.yml"
    later.parent.mkdir()
    text = FACTS["run"]["files"][HPARAMS]["text"]
    later.write_text(text.replace("learning_rate: 0.001", "learning_rate: 0.5"), encoding="utf-8")
    written = (run / NAME / LORA_WEIGHTS).stat().st_mtime_ns
    os.utime(later, ns=(written + 1, written + 1))

    found = open_checkpoint(run / NAME)
    os.utime(later, ns=(written, written))
    resumed = open_checkpoint(run / NAME)

    rates = [one.settings["optimizer.learning_rate"] for one in (found, resumed)]
    assert rates == [1e-3, 0.5]


def test_a_configuration_in_the_output_directory(tmp_path: Path) -> None:
    """Without a tracker, `config.json` counts where it is SimpleTuner's, with dashes or not."""
    case = FACTS["standard"]["lora"]
    lay(whole(case["files"]), tmp_path / NAME)
    for dashes in ("", "--"):
        content = {
            f"{dashes}{name}": value
            for name, value in {
                "model_family": "flux",
                "model_type": "lora",
                "mixed_precision": "no",
                "base_model_precision": "int8-quanto",
                "optimizer": "prodigy",
                "optimizer_config": "d_coef=0.5,use_bias_correction=True,split=a",
            }.items()
        }
        lay({"config.json": {"json": content}}, tmp_path)
        settings = open_checkpoint(tmp_path / NAME).settings
        expected = {
            "precision.mixed": "fp32",
            "base.quantization": "int8-quanto",
            "optimizer.name": "prodigy",
            "optimizer.args.d_coef": 0.5,
            "optimizer.args.use_bias_correction": True,
            "optimizer.args.split": "a",
        }
        assert expected.items() <= settings.items()

    lay({"config.json": {"json": {"optimizer": "a diffusers model's"}}}, tmp_path)
    assert "optimizer.name" not in open_checkpoint(tmp_path / NAME).settings


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1]\nb: {<<: [*a]}",
        "[" * 300_000,
        "optimizer: !!python/object/apply:os.system ['true']",
        "optimizer: *other",
        "- a list",
        "\0",
        "x" * 300_000,
    ],
)
def test_a_hostile_configuration_says_nothing(run: Path, text: str) -> None:
    """Nothing is run, nothing raised, and the checkpoint is none the worse."""
    (run / HPARAMS).write_text(text, encoding="utf-8")
    os.utime(run / HPARAMS, ns=(0, 1))

    found = open_checkpoint(run / NAME)

    assert "optimizer.name" not in found.settings
    assert found.faults == ()


def test_every_argument_that_is_read_exists() -> None:
    """The names come from SimpleTuner's own parser, and so do the precisions."""
    options = FACTS["accepts"]["arguments"]["train"]
    names = ("optimizer", "lr_scheduler", "mixed_precision", "base_model_precision")
    names += ("pretrained_model_name_or_path", "model_family", "learning_rate", "text_encoder_lr")
    names += ("lr_warmup_steps", "optimizer_config")
    assert {f"--{name}" for name in names} <= options.keys()
    told = {
        value: settings_of({"mixed_precision": value})["precision.mixed"]
        for value in options["--mixed_precision"][2]
    }
    assert told == {"no": "fp32", "fp16": "fp16", "bf16": "bf16", "fp8": "fp8"}


def test_a_quarantine_is_not_resumed_from() -> None:
    """SimpleTuner looks for names that begin with `checkpoint`; another such name stops it."""
    picked = {case["directories"][1]: case["picked"] for case in FACTS["latest"]}
    assert picked[DIRECTORY] == "checkpoint-10"
    assert picked["checkpoint-broken"] is None
