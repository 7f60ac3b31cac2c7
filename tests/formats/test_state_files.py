"""Files of a checkpoint's state as torch, Transformers and accelerate write them."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sentinel.checkpoint import Checkpoint
from sentinel.errors import InputError
from sentinel.flow import judge
from sentinel.formats.containers.pickle_nodes import Call, Global
from sentinel.formats.containers.plain_pickle import read_pickle_file
from sentinel.formats.opening import candidate_at, is_whole, open_checkpoint
from sentinel.formats.setting_names import is_known
from sentinel.formats.state_files import settings_of_state, updates_of_state
from sentinel.rules.load import load_rules

pytestmark = pytest.mark.trainer

torch = pytest.importorskip("torch")

RULES = load_rules()


class Attack:
    """Pickled by the standard library it would touch a file when loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.canary,))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What accelerate saves of a model, AdamW, a schedule, a sampler and an object of one's own."""
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 2))
    data = torch.utils.data.DataLoader([torch.ones(4)] * 8, batch_size=2, shuffle=True)
    model, optimizer, data, scheduler = accelerator.prepare(model, optimizer, data, scheduler)
    accelerator.register_for_checkpointing(torch.optim.swa_utils.AveragedModel(model))
    for batch in data:
        accelerator.backward(model(batch).sum())
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    path = tmp_path_factory.mktemp("run") / "checkpoint-4"
    accelerator.save_state(str(path))
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    torch.save(scaler.state_dict(), path / "scaler.pt")
    # Saved whole, but only over an iterable data set.
    sampler = accelerate.data_loader.SeedableRandomSampler(
        data_source=range(8), generator=torch.Generator(), data_seed=3
    )
    torch.save(sampler, path / "sampler.bin")
    return path


@pytest.fixture
def checkpoint(written: Path, tmp_path: Path) -> Path:
    copy = tmp_path / written.name
    copy.mkdir()
    for file in written.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def state_faults(found: Checkpoint) -> list[tuple[str, str]]:
    assert {fault.part for fault in found.faults} <= {"state"}
    return [(fault.rule, fault.member) for fault in found.faults]


def test_a_healthy_state_is_read_whole_and_usable(checkpoint: Path) -> None:
    """Random states with NumPy's arrays, a sampler and an averaged model are nothing hostile."""
    found = open_checkpoint(checkpoint)

    state = {member.path for member in found.members if member.part == "state"}
    assert state == {
        "scheduler.bin",
        "scaler.pt",
        "random_states_0.pkl",
        "sampler.bin",
        "custom_checkpoint_0.pkl",
    }
    assert found.faults == ()
    assert found.state_is_whole
    verdict = judge(checkpoint, rules=RULES).verdict
    assert (verdict.level, verdict.usable) == ("healthy", ("weights", "optimizer", "state"))


def test_schedule_and_loss_scale_become_settings(checkpoint: Path) -> None:
    """The schedule made four steps, of which the first had a rate of zero."""
    found = open_checkpoint(checkpoint)

    assert (
        found.settings.items()
        >= {
            "scheduler.steps": 4,
            "scheduler.base_lr": 1e-3,
            "scheduler.last_lr": 1e-3,
            "precision.scaler_scale": 512.0,
            "precision.scaler_growth_tracker": 0,
        }.items()
    )
    assert all(map(is_known, found.settings))
    assert found.updates_done == 3


@pytest.mark.parametrize(
    "name",
    ["scheduler.bin", "scaler.pt", "random_states_0.pkl", "sampler.bin", "custom_checkpoint_0.pkl"],
)
@pytest.mark.parametrize("share", [0.0, 0.4, 0.99])
def test_a_torn_file_of_the_state_is_named_and_the_rest_is_usable(
    checkpoint: Path, name: str, share: float
) -> None:
    """Weights and optimizer can be loaded; a resume of everything could not."""
    whole = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(whole[: int(share * len(whole))])

    found = open_checkpoint(checkpoint)

    assert state_faults(found) == [("truncated-file", name)]
    candidate = candidate_at(checkpoint)
    assert candidate is not None
    assert not is_whole(candidate)
    verdict = judge(checkpoint, rules=RULES).verdict
    assert (verdict.level, verdict.usable) == ("unreadable", ("weights", "optimizer"))


@pytest.mark.parametrize("dump", [pickle.dumps, "torch"])
def test_a_hostile_file_of_the_state_is_unsafe(
    checkpoint: Path, tmp_path: Path, dump: Callable[[object], bytes] | str
) -> None:
    """Plain or by torch, nothing of it runs."""
    value = {"step": 3, "x": Attack(tmp_path / "canary")}
    if isinstance(dump, str):
        torch.save(value, checkpoint / "random_states_0.pkl")
    else:
        (checkpoint / "random_states_0.pkl").write_bytes(dump(value))

    found = open_checkpoint(checkpoint)

    assert state_faults(found) == [("unsafe-pickle", "random_states_0.pkl")]
    assert not (tmp_path / "canary").exists()
    assert judge(checkpoint, rules=RULES).verdict.usable == ("weights", "optimizer")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_random_states_in_a_plain_pickle_are_healthy(checkpoint: Path, protocol: int) -> None:
    """Of every protocol: Python's state, both kinds of NumPy's, arrays and scalars."""
    states = {
        "random_state": random.getstate(),
        "numpy_random_seed": np.random.get_state(),  # noqa: NPY002 - what trainers save
        "generator": np.random.default_rng(0).bit_generator.state,
        "counts": np.arange(3),
        "rate": np.float64(1e-3),
    }
    (checkpoint / "random_states_0.pkl").write_bytes(pickle.dumps(states, protocol=protocol))

    assert open_checkpoint(checkpoint).faults == ()


def test_bytes_after_a_plain_pickle_are_no_part_of_it(checkpoint: Path) -> None:
    (checkpoint / "random_states_0.pkl").write_bytes(pickle.dumps({"step": 1}) + b"more")

    assert state_faults(open_checkpoint(checkpoint)) == [("malformed-file", "random_states_0.pkl")]


STATES = pickle.dumps({"random": random.getstate(), "counts": np.arange(9), "x": [1.5, None]})


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 2**16), st.binary(max_size=6)), max_size=4),
    st.integers(0, 2**16),
)
def test_any_mutation_of_a_plain_pickle_ends_in_a_value_or_an_input_error(
    tmp_path: Path, changes: list[tuple[int, bytes]], length: int
) -> None:
    """Bytes are changed, and the end is cut off."""
    raw = bytearray(STATES)
    for at, new in changes:
        begin = at % len(raw)
        raw[begin : begin + len(new)] = new
    path = tmp_path / "random_states_0.pkl"
    path.write_bytes(raw[: max(length, 1)])

    with suppress(InputError):
        read_pickle_file(path)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
trees = st.recursive(
    leaves | leaves.map(lambda one: Call(Global("a", "B"), (one,))),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["last_epoch", "_last_lr", "base_lrs", "scale", "_growth_tracker"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(["scheduler.pt", "scheduler.bin", "scaler.pt", "training_args.bin"]), trees
    ),
    st.none() | st.integers(0, 100),
)
def test_a_state_of_any_form_ends_in_settings(state: dict[str, object], step: int | None) -> None:
    """Settings are plain values; proven updates are none, or a count up to the step."""
    found = settings_of_state(state)

    assert all(isinstance(value, str | int | float | bool) for value in found.values())
    updates = updates_of_state(state, step)
    assert updates is None or (updates > 0 and (step is None or updates < step))


def test_a_second_optimizer_is_read_too(checkpoint: Path) -> None:
    """Both are one state; when the second is torn, neither is called usable."""
    alone = open_checkpoint(checkpoint).optimizer
    assert alone is not None
    (checkpoint / "optimizer_1.bin").write_bytes((checkpoint / "optimizer.bin").read_bytes())

    both = open_checkpoint(checkpoint).optimizer

    assert both is not None
    assert len(both.parameters) == 2 * len(alone.parameters)
    assert [group.parameter_count for group in both.groups] == [2, 2]
    (checkpoint / "optimizer_1.bin").write_bytes(b"")
    assert judge(checkpoint, rules=RULES).verdict.usable == ("weights", "state")


def test_a_second_optimizer_of_another_form_is_not_called_usable(checkpoint: Path) -> None:
    """Nobody can speak for both."""
    torch.save({"something": 1}, checkpoint / "optimizer_1.bin")

    assert judge(checkpoint, rules=RULES).verdict.usable == ("weights", "state")


def test_a_broken_second_model_is_a_fault_of_the_state(checkpoint: Path) -> None:
    (checkpoint / "model_1.safetensors").write_bytes(b"\x08")

    assert state_faults(open_checkpoint(checkpoint)) == [("truncated-file", "model_1.safetensors")]


def plateau() -> dict[str, Any]:
    """Its best value and the worst one are Inf until it was told one."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    state = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer).state_dict()
    assert math.isinf(state["best"])
    assert math.isinf(state["mode_worse"])
    return dict(state)


def test_infinities_that_are_normal_are_quiet(checkpoint: Path) -> None:
    torch.save(plateau(), checkpoint / "scheduler.bin")
    torch.save({"best_score": float("-inf"), "wait": 0}, checkpoint / "custom_checkpoint_0.pkl")

    verdict = judge(checkpoint, rules=RULES).verdict

    assert (verdict.level, verdict.findings) == ("healthy", ())


def test_a_loss_scale_of_zero_makes_the_next_step_nan() -> None:
    """What the rule says of it is what torch does: the check sees zeros, the division NaN."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-149)
    for loss in (weight.sum() * math.inf, weight.sum()):
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    assert scaler.state_dict()["scale"] == 0
    assert torch.isnan(weight).all()


@pytest.mark.parametrize("scale", [0.0, math.nan])
def test_a_loss_scale_that_ends_training_is_told(checkpoint: Path, scale: float) -> None:
    """A scale of 0 makes the next step NaN, one of NaN skips every step: a rule says so."""
    torch.save({"scale": scale, "_growth_tracker": 0}, checkpoint / "scaler.pt")

    found = open_checkpoint(checkpoint).settings["precision.scaler_scale"]

    assert str(found) == str(scale)
    verdict = judge(checkpoint, rules=RULES).verdict
    assert [one.rule for one in verdict.findings] == ["loss-scale-dead"]


@pytest.mark.parametrize(
    ("state", "step", "updates"),
    [
        ({"scheduler.pt": {"last_epoch": 9, "base_lrs": [1e-3, 1e-4]}}, None, 8),
        ({"scheduler.pt": {"last_epoch": 9, "base_lrs": [1e-3]}}, 5, 4),
        ({"scheduler.pt": {"last_epoch": 9, "base_lrs": [1e-3, 0.0]}}, 9, None),
        ({"scheduler.pt": {"last_epoch": 9, "base_lrs": [math.nan]}}, 9, None),
        ({"scheduler.pt": {"last_epoch": 9}}, 9, None),
        ({"scheduler.pt": {"last_epoch": 1, "base_lrs": [1.0]}}, 1, None),
        ({"scheduler.pt": [1, 2]}, 1, None),
        (
            {
                "scheduler.bin": {"last_epoch": 9, "base_lrs": [1.0]},
                "random_states_0.pkl": {},
                "random_states_1.pkl": {},
            },
            None,
            3,
        ),
    ],
)
def test_a_schedule_never_proves_more_updates_than_it_made(
    state: dict[str, object], step: int | None, updates: int | None
) -> None:
    """Less one for a first rate of zero, shared by the processes, no more than the step."""
    assert updates_of_state(state, step) == updates


def test_arguments_alone_are_no_state_to_resume(tmp_path: Path) -> None:
    """A last adapter with `training_args.bin` beside it tells settings and resumes nothing."""
    transformers = pytest.importorskip("transformers")
    key = "base_model.model.layers.0.q_proj"
    tensors = {f"{key}.lora_A.weight": np.ones((2, 4), "f4")}
    tensors[f"{key}.lora_B.weight"] = np.ones((4, 2), "f4")
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2}')
    given = transformers.TrainingArguments(output_dir="x", report_to=[], use_cpu=True, seed=5)
    torch.save(given, tmp_path / "training_args.bin")

    found = open_checkpoint(tmp_path)

    assert (found.layout, found.settings["training.seed"]) == ("peft", 5)
    assert not found.state_is_whole
