"""`training_args.bin`: what Transformers' arguments say, read as data."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import UnsafePickleError
from sentinel.formats.containers.pickle_nodes import Call, Global
from sentinel.formats.containers.torch_file import read_torch_file
from sentinel.formats.setting_names import is_known
from sentinel.formats.training_arguments import (
    options_of,
    settings_of_arguments,
    trainer_of_arguments,
)

pytestmark = pytest.mark.trainer

torch = pytest.importorskip("torch")


def tree_of(path: Path, value: object) -> object:
    torch.save(value, path / "training_args.bin")
    return read_torch_file(path / "training_args.bin").tree


def arguments(path: Path, kind: str = "TrainingArguments", **options: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    made = getattr(transformers, kind)
    return made(output_dir=str(path), report_to=[], use_cpu=True, **options)


def test_the_real_arguments_become_settings(tmp_path: Path) -> None:
    """Every setting has the value that the object itself has, enums by their value."""
    given = arguments(
        tmp_path,
        bf16=True,
        optim="adafactor",
        optim_args="scale_parameter=True,clip_threshold=0.5",
        learning_rate=3e-4,
        adam_epsilon=1e-6,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr": 1e-5},
        warmup_steps=7,
        gradient_accumulation_steps=4,
        gradient_checkpointing=True,
        seed=11,
        save_total_limit=3,
        resume_from_checkpoint="out/checkpoint-3",
    )

    settings = settings_of_arguments(tree_of(tmp_path, given))

    assert (
        settings.items()
        >= {
            "optimizer.name": given.optim.value,
            "optimizer.learning_rate": 3e-4,
            "optimizer.eps": 1e-6,
            "optimizer.beta1": given.adam_beta1,
            "optimizer.beta2": given.adam_beta2,
            "optimizer.weight_decay": given.weight_decay,
            "optimizer.args.scale_parameter": True,
            "optimizer.args.clip_threshold": 0.5,
            "precision.mixed": "bf16",
            "scheduler.name": "cosine_with_min_lr",
            "scheduler.args.min_lr": 1e-5,
            "scheduler.warmup_steps": 7,
            "training.batch_size": given.per_device_train_batch_size,
            "training.gradient_accumulation_steps": 4,
            "training.gradient_checkpointing": True,
            "training.max_grad_norm": given.max_grad_norm,
            "training.seed": 11,
            "training.save_steps": given.save_steps,
            "training.save_total_limit": 3,
            "training.logging_nan_inf_filter": True,
            "training.deepspeed": False,
            "training.fsdp": False,
            "training.processes": 1,
            "training.device": "cpu",
            "resume.path": "out/checkpoint-3",
        }.items()
    )
    assert all(map(is_known, settings))


def test_what_was_not_set_is_not_told(tmp_path: Path) -> None:
    """None in the arguments is no setting; neither fp16 nor bf16 is the autocast `no`."""
    settings = settings_of_arguments(tree_of(tmp_path, arguments(tmp_path)))

    assert settings["precision.mixed"] == "no"
    assert "precision.training" not in settings
    assert not {"training.save_total_limit", "resume.path"} & set(settings)


def test_a_share_of_warm_up_is_no_count(tmp_path: Path) -> None:
    """Version 5 takes a share for steps below 1."""
    settings = settings_of_arguments(tree_of(tmp_path, arguments(tmp_path, warmup_steps=0.1)))

    assert settings["scheduler.warmup_ratio"] == 0.1
    assert "scheduler.warmup_steps" not in settings


def test_the_arguments_of_seq2seq_hold_a_generations_too(tmp_path: Path) -> None:
    """A `GenerationConfig` inside is a class of settings and nothing hostile."""
    transformers = pytest.importorskip("transformers")
    given = arguments(
        tmp_path,
        "Seq2SeqTrainingArguments",
        generation_config=transformers.GenerationConfig(max_length=5),
    )

    assert settings_of_arguments(tree_of(tmp_path, given))["training.seed"] == 42


def test_deepspeed_is_told(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    given = arguments(tmp_path, deepspeed={"zero_optimization": {"stage": 2}})

    assert settings_of_arguments(tree_of(tmp_path, given))["training.deepspeed"] is True


def of_class(
    patch: pytest.MonkeyPatch, module: str, name: str, fields: dict[str, object]
) -> object:
    """An object of a class that lies in a module which is not installed."""
    made = type(name, (), {"__module__": module, "__qualname__": name})
    stand_in = types.ModuleType(module)
    setattr(stand_in, name, made)
    for known in (module.partition(".")[0], module):
        patch.setitem(sys.modules, known, stand_in)
    instance = made()
    instance.__dict__.update(fields)
    return instance


VERSION_4: dict[str, object] = {
    "output_dir": "out",
    "fp16": True,
    "bf16": False,
    "optim": "paged_adamw_8bit",
    "optim_args": None,
    "learning_rate": 2e-4,
    "warmup_ratio": 0.03,
    "warmup_steps": 0,
    "lr_scheduler_type": "cosine",
    "fsdp": ["full_shard"],
    "deepspeed": None,
}
"""Fields as version 4.57.3 writes them (two of them renamed in version 5)."""


@pytest.mark.parametrize(
    ("module", "name", "trainer"),
    [
        ("trl_of_a_test.trainer.kto_config", "KTOConfig", None),
        ("llamafactory.hparams.training_args", "TrainingArguments", "llama-factory"),
        ("axolotl.core.training_args", "AxolotlTrainingArguments", "axolotl"),
        ("swift.trainers.arguments", "Seq2SeqTrainingArguments", "ms-swift"),
        ("finetune_of_a_test", "TrainingArguments", None),
    ],
)
def test_a_trainers_own_class_is_not_hostile(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    name: str,
    trainer: str | None,
) -> None:
    """Trainers derive a class of their own; its fields are Transformers'."""
    tree = tree_of(tmp_path, of_class(monkeypatch, module, name, VERSION_4))

    assert trainer_of_arguments(tree) == trainer
    settings = settings_of_arguments(tree)
    assert settings["precision.mixed"] == "fp16"
    assert settings["optimizer.name"] == "paged_adamw_8bit"
    assert settings["scheduler.warmup_ratio"] == 0.03
    assert (settings["training.fsdp"], settings["training.deepspeed"]) == (True, False)


def test_a_scripts_own_class_is_not_hostile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MiniCPM-V's fine-tuning script defines its arguments itself, so pickle says `__main__`."""
    fields = {**VERSION_4, "tune_vision": True, "tune_llm": False, "llm_type": "qwen2"}
    instance = of_class(monkeypatch, "__main__", "TrainingArguments", fields)
    tree = tree_of(tmp_path, instance)

    assert trainer_of_arguments(tree) == "minicpm-v"
    assert settings_of_arguments(tree)["optimizer.learning_rate"] == 2e-4


@pytest.mark.parametrize(
    ("module", "name"),
    [("logging.config", "FileConfig"), ("os", "SystemArguments"), ("evil", "run"), ("evil", "Cfg")],
)
def test_the_name_of_a_class_of_settings_is_no_pass(tmp_path: Path, module: str, name: str) -> None:
    """Neither a module of Python's own nor a name of another kind is let through."""
    raw = b"\x80\x02c" + f"{module}\n{name}\n".encode() + b")\x81}b."
    (tmp_path / "x.pkl").write_bytes(raw)

    from sentinel.formats.containers.plain_pickle import read_pickle_file  # noqa: PLC0415

    with pytest.raises(UnsafePickleError, match=name):
        read_pickle_file(tmp_path / "x.pkl")


def test_a_class_of_settings_with_arguments_is_a_call(tmp_path: Path) -> None:
    """Made without arguments an object only holds its fields; with them something runs."""
    from sentinel.formats.containers.plain_pickle import read_pickle_file  # noqa: PLC0415

    raw = b"\x80\x02cevil\nTrainingArguments\nX\x02\x00\x00\x00rm\x85R."
    (tmp_path / "x.pkl").write_bytes(raw)

    with pytest.raises(UnsafePickleError, match=r"evil\.TrainingArguments"):
        read_pickle_file(tmp_path / "x.pkl")


def test_options_are_taken_apart() -> None:
    """Pairs in brackets stay whole; numbers and switches are such."""
    assert options_of("betas=(0.9, 0.99), eps = 1e-6,decouple=True,name=x,n=3") == {
        "betas": "(0.9, 0.99)",
        "eps": 1e-6,
        "decouple": True,
        "name": "x",
        "n": 3,
    }
    assert options_of(None) == {}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from([*VERSION_4, "lr_scheduler_kwargs", "distributed_state", "max_steps"]),
        values | values.map(lambda one: Call(Global("a", "B"), (one,), one)),
    )
)
def test_arguments_of_any_form_end_in_settings(fields: dict[str, object]) -> None:
    """Whatever the fields hold, settings are plain values under known names."""
    tree = Call(Global("__main__", "TrainingArguments"), (), {"output_dir": "x", **fields})

    settings = settings_of_arguments(tree)

    assert all(isinstance(value, str | int | float | bool) for value in settings.values())
    pickle.dumps(settings)
