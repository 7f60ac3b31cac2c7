"""`sentinel.scan` on real files: order, history, what cannot be read, what moves meanwhile."""

from __future__ import annotations

import json
import os
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

import sentinel
from sentinel.errors import ConfigError, InputError
from sentinel.flow import Judgement
from sentinel.inspecting import READ_ATTEMPTS
from sentinel.rules.load import load_rules

RULES = load_rules()
MODULES = [f"base_model.model.model.layers.{n}.self_attn.q_proj" for n in range(4)]

Tensors = Mapping[str, np.ndarray]


def lora(seed: int, *, moved: int = 4, up: float | None = None, dtype: str = "f4") -> Tensors:
    """A small adapter: the first ``moved`` modules follow the seed, ``up`` fills lora_B."""
    tensors = {}
    for number, module in enumerate(MODULES):
        draw = np.random.default_rng([number, seed if number < moved else 0])
        down, grown = draw.uniform(-0.2, 0.2, (4, 32)), draw.normal(0, 0.01, (16, 4))
        tensors[f"{module}.lora_A.weight"] = down.astype(dtype)
        tensors[f"{module}.lora_B.weight"] = (
            grown if up is None else np.full_like(grown, up)
        ).astype(dtype)
    return tensors


def trainer(path: Path, tensors: Tensors, *, step: int | None = None, rate: float = 1e-4) -> Path:
    """A `checkpoint-N` of Transformers' Trainer that logged its learning rate at every step."""
    at = int(path.name.split("-")[1]) if step is None else step
    path.mkdir(parents=True)
    save_file(dict(tensors), path / "adapter_model.safetensors")
    write_json(path / "adapter_config.json", {"peft_type": "LORA", "r": 4, "lora_alpha": 8})
    log = [{"step": n, "loss": 2.0 - n / 1e3, "learning_rate": rate} for n in range(1, at + 1)]
    write_json(path / "trainer_state.json", {"global_step": at, "log_history": log})
    return path


def kohya(path: Path, *, up: float = 0.01, **metadata: str) -> Path:
    """A single file as sd-scripts writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(kohya_bytes(up, **metadata))
    return path


def kohya_bytes(up: float = 0.01, **metadata: str) -> bytes:
    down = np.random.default_rng(1).uniform(-0.2, 0.2, (4, 32))
    tensors = {
        "lora_unet_q.lora_down.weight": down.astype("f2"),
        "lora_unet_q.lora_up.weight": np.full((16, 4), up, "f2"),
        "lora_unet_q.alpha": np.array(4, "f2"),
    }
    known = {"ss_network_module": "networks.lora", "ss_network_dim": "4", "ss_steps": "400"}
    return save(tensors, {**known, **metadata})


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def scan(*paths: Path, **options: object) -> tuple[Judgement, ...]:
    return sentinel.scan(*paths, **{"rules": RULES, "settle_s": 0, **options})


def levels(judgements: tuple[Judgement, ...]) -> dict[str, str]:
    return {one.checkpoint.path.name: one.verdict.level for one in judgements}


def rules_of(judgement: Judgement) -> set[str]:
    return {finding.rule for finding in judgement.verdict.findings}


# -- order and history --


def test_each_run_is_ordered_by_its_steps(tmp_path):
    """Runs stay together and are ordered by number, not by name."""
    for name in ("a/checkpoint-100", "a/checkpoint-20", "b/checkpoint-9", "b/checkpoint-10"):
        trainer(tmp_path / name, lora(1))

    found = [str(one.checkpoint.path.relative_to(tmp_path)) for one in scan(tmp_path)]

    assert found == ["a/checkpoint-20", "a/checkpoint-100", "b/checkpoint-9", "b/checkpoint-10"]


def test_paths_in_any_order_are_one_run_once(tmp_path):
    """A shell's `checkpoint-*` comes in the order of names; a checkpoint named twice is one."""
    late = trainer(tmp_path / "checkpoint-100", lora(2))
    early = trainer(tmp_path / "checkpoint-20", lora(1))

    found = scan(late, early, tmp_path / "." / "checkpoint-20", tmp_path)

    assert [one.checkpoint.step for one in found] == [20, 100]
    assert levels(found) == {"checkpoint-20": "healthy", "checkpoint-100": "healthy"}


def test_the_earlier_checkpoint_is_the_history_of_the_later(tmp_path):
    """What did not change since the step before is found, also through the step of the name."""
    trainer(tmp_path / "checkpoint-100", lora(1))
    trainer(tmp_path / "checkpoint-20", lora(1))
    trainer(tmp_path / "checkpoint-300", lora(2))

    first, second, third = scan(tmp_path)

    assert first.verdict.level == "healthy"
    assert rules_of(second) == {"unchanged-checkpoint"}
    assert third.verdict.level == "healthy"
    assert "unchanged-checkpoint" in {one.rule for one in first.verdict.not_evaluated}


def test_half_of_the_adapter_that_stands_still_is_found(tmp_path):
    """stalled-updates compares module by module with the checkpoint before."""
    trainer(tmp_path / "checkpoint-20", lora(1, moved=2))
    trainer(tmp_path / "checkpoint-40", lora(2, moved=2))

    first, second = scan(tmp_path)

    assert first.verdict.level == "healthy"
    assert rules_of(second) == {"stalled-updates"}


def test_another_run_is_nobodys_history(tmp_path):
    """The same bytes in two output directories are two healthy runs."""
    trainer(tmp_path / "a" / "checkpoint-20", lora(1))
    trainer(tmp_path / "b" / "checkpoint-40", lora(1))

    assert {one.verdict.level for one in scan(tmp_path)} == {"healthy"}


def test_an_unreadable_checkpoint_is_skipped_as_history(tmp_path):
    """The one after a torn file is compared with the one before it."""
    trainer(tmp_path / "checkpoint-20", lora(1))
    torn = trainer(tmp_path / "checkpoint-40", lora(1)) / "adapter_model.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1])
    trainer(tmp_path / "checkpoint-60", lora(1))

    _, second, third = scan(tmp_path)

    assert second.verdict.level == "unreadable"
    assert rules_of(third) == {"unchanged-checkpoint"}


@pytest.mark.parametrize("jobs", [1, 3])
def test_threads_change_nothing(tmp_path, jobs):
    """Order and verdicts do not depend on the number of jobs; the progress adds up."""
    for step in (10, 20, 30, 40):
        trainer(tmp_path / f"checkpoint-{step}", lora(step, up=np.nan if step == 30 else None))
    progress = Told()

    found = scan(tmp_path, jobs=jobs, progress=progress)

    assert [one.verdict.level for one in found] == ["healthy", "healthy", "faulty", "healthy"]
    assert progress.total == progress.read > 0


def test_judge_is_scan_for_one(tmp_path):
    """`judge` takes the history as an argument and says the same."""
    first = trainer(tmp_path / "checkpoint-20", lora(1))
    second = trainer(tmp_path / "checkpoint-40", lora(1))

    before = sentinel.judge(first, rules=RULES, digest=True)
    after = sentinel.judge(second, rules=RULES, digest=True, previous=before)

    assert (before.verdict, after.verdict) == tuple(one.verdict for one in scan(tmp_path))


def test_nothing_is_written(tmp_path):
    """A scan leaves names, sizes and times as they were."""
    trainer(tmp_path / "checkpoint-20", lora(1))

    def look() -> list[tuple[Path, int, int]]:
        return [(p, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(tmp_path.rglob("*"))]

    before = look()
    scan(tmp_path)

    assert look() == before


def test_a_resume_that_lost_the_optimizer_is_told(tmp_path):
    """torch's own state counts the steps; the next checkpoint's counts fewer, the last has none."""
    torch = pytest.importorskip("torch")
    for step, counted in ((20, 20), (40, 10), (60, 0)):
        path = trainer(tmp_path / f"checkpoint-{step}", lora(step))
        if not counted:
            continue
        weight = torch.nn.Parameter(torch.ones(8))
        optimizer = torch.optim.AdamW([weight], 1e-4)
        for _ in range(counted):
            weight.grad = torch.ones(8)
            optimizer.step()
        torch.save(optimizer.state_dict(), path / "optimizer.pt")

    first, reset, missing = scan(tmp_path)

    assert rules_of(first) == set()
    assert rules_of(reset) == {"optimizer-reset-on-resume"}
    assert rules_of(missing) == {"optimizer-state-missing"}


# -- zeros by design --


@pytest.mark.parametrize(
    ("step", "rate", "level"),
    [(0, 1e-4, "healthy"), (30, 0.0, "healthy"), (1, 1e-4, "suspect"), (30, 1e-4, "faulty")],
    ids=["step 0", "warm-up", "perhaps one update", "trained"],
)
def test_zeros_are_a_fault_only_after_an_update(tmp_path, step, rate, level):
    """lora_B begins at zero: that says nothing before a step with a learning rate above zero."""
    path = trainer(tmp_path / "last", lora(1, up=0.0), step=step, rate=rate)

    (found,) = scan(path)

    assert found.verdict.level == level
    assert rules_of(found) == (set() if level == "healthy" else {"dead-lora-up"})


@pytest.mark.parametrize(
    ("steps", "warmup", "level"), [("0", "0", "healthy"), ("400", "100", "faulty")]
)
def test_zeros_in_a_kohya_file(tmp_path, steps, warmup, level):
    """The same for the single files of sd-scripts, which count their steps in the metadata."""
    path = kohya(tmp_path / "cat.safetensors", up=0, ss_steps=steps, ss_lr_warmup_steps=warmup)

    assert levels(scan(path)) == {"cat.safetensors": level}


# -- what cannot be understood --


def header(content: bytes, length: int | None = None, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(content) if length is None else length) + content + data


WHOLE = kohya_bytes()
BROKEN = {
    "empty": b"",
    "short": b"\x08\x00\x00",
    "cut inside the header": WHOLE[:40],
    "cut inside the values": WHOLE[:-1],
    "longer than it says": WHOLE + b"\0",
    "a header longer than memory": header(b"{}", 2**63),
    "no JSON": header(b"not json"),
    "a list": header(b"[1]"),
    "offsets beyond the end": header(
        b'{"w":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}', data=bytes(4)
    ),
    "offsets backwards": header(
        b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', data=bytes(4)
    ),
    "shape and offsets disagree": header(
        b'{"w":{"dtype":"F32","shape":[7],"data_offsets":[0,4]}}', data=bytes(4)
    ),
    "a shape whose product overflows": header(
        b'{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}', data=bytes(4)
    ),
    "two tensors in the same bytes": header(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        data=bytes(4),
    ),
    "nested without end": header(b'{"a":' * 20_000),
    "a pickle": b"\x80\x04cposix\nsystem\nX\x02\x00\x00\x00id\x85R.",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_unreadable_and_the_scan_goes_on(tmp_path, content):
    """One sentence names the file, nothing of it is usable, and its neighbour has its verdict."""
    (tmp_path / "bad.safetensors").write_bytes(content)
    kohya(tmp_path / "good.safetensors")

    bad, good = scan(tmp_path)

    assert (bad.verdict.level, bad.verdict.usable) == ("unreadable", ())
    assert "bad.safetensors" in str(bad.verdict.reason)
    assert "\n" not in str(bad.verdict.reason)
    assert (good.verdict.level, good.verdict.usable) == ("healthy", ("weights",))


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_a_file_cut_anywhere_is_unreadable(tmp_path_factory, data):
    """No prefix of a file passes for the file."""
    length = data.draw(st.integers(0, len(WHOLE) - 1))
    path = tmp_path_factory.mktemp("cut") / "cat.safetensors"
    path.write_bytes(WHOLE[:length])

    (found,) = scan(path)

    assert found.verdict.level == "unreadable"


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_a_changed_byte_never_stops_the_scan(tmp_path_factory, data):
    """Whatever byte is another, there is a verdict, and it is not healthy by misunderstanding."""
    at = data.draw(st.integers(0, len(WHOLE) - 1))
    changed = WHOLE[:at] + bytes([data.draw(st.integers(0, 255))]) + WHOLE[at + 1 :]
    path = tmp_path_factory.mktemp("flip") / "cat.safetensors"
    path.write_bytes(changed)

    (found,) = scan(path)

    if found.verdict.level == "healthy":
        assert len(found.checkpoint.tensors) == 3
        assert found.verdict.usable == ("weights",)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in directories")
def test_what_is_no_file_is_not_waited_for(tmp_path):
    """A named pipe would never end, a link may lead nowhere or around in a circle."""
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nothing")
    (tmp_path / "around").symlink_to(tmp_path)
    kohya(tmp_path / "good.safetensors")

    assert levels(scan(tmp_path)) == {
        "pipe.safetensors": "unreadable",
        "gone.safetensors": "unreadable",
        "good.safetensors": "healthy",
    }


@pytest.mark.parametrize(("value", "level"), [(1.0, "suspect"), (np.nan, "faulty")])
def test_an_unknown_layout_is_at_best_suspect(tmp_path, value, level):
    """Its values are judged, but what belongs together is not known."""
    save_file({"w": np.full((4, 4), value, "f4")}, tmp_path / "something.safetensors")

    (found,) = scan(tmp_path)

    assert found.checkpoint.layout == "unknown"
    assert found.verdict.level == level
    assert "unknown-layout" in rules_of(found)


def test_whole_weights_of_an_unfinished_checkpoint_are_usable(tmp_path):
    """The trainer's state is missing, so it is unreadable, but the adapter can be loaded."""
    path = trainer(tmp_path / "checkpoint-20", lora(1))
    (path / "trainer_state.json").unlink()

    (found,) = scan(path)

    assert (found.verdict.level, found.verdict.usable) == ("unreadable", ("weights",))


def test_a_torn_file_of_the_state_leaves_the_weights_usable(tmp_path):
    """A scheduler that was cut short is named; a resume of everything would fail."""
    path = trainer(tmp_path / "checkpoint-20", lora(1))
    (path / "scheduler.pt").write_bytes(b"PK\3\4 cut")

    (found,) = scan(path)

    assert (found.verdict.level, found.verdict.usable) == ("unreadable", ("weights",))
    assert "scheduler.pt" in found.verdict.reason


def test_faulty_weights_are_not_usable(tmp_path):
    """What a critical content finding names is not offered."""
    (found,) = scan(trainer(tmp_path / "checkpoint-20", lora(1, up=np.inf)))

    assert (found.verdict.level, found.verdict.usable) == ("faulty", ())
    assert "inf-values" in rules_of(found)


def test_a_path_that_does_not_exist_is_the_callers_mistake(tmp_path):
    """It is no verdict about a checkpoint."""
    with pytest.raises(ConfigError, match="does not exist"):
        scan(tmp_path / "nothing")


# -- files that change --


class Told:
    """A listener to a scan's progress, which may do something once so much was read."""

    def __init__(self, act: Callable[[int], None] | None = None) -> None:
        self.total = self.read = self.calls = 0
        self._act = act
        self._lock = threading.Lock()

    def begin(self, total_bytes: int) -> None:
        self.total = total_bytes

    def advance(self, size_bytes: int) -> None:
        with self._lock:
            self.read += size_bytes
            self.calls += 1
            if self._act is not None:
                self._act(self.calls)


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path):
    """The verdict is about the second version alone: the numbers of the first are void."""
    path = kohya(tmp_path / "cat.safetensors")

    def replace(call: int) -> None:
        if call == 1:
            kohya(path, up=np.nan)

    (found,) = scan(path, progress=Told(replace))

    assert rules_of(found) == {"nan-values"}


def test_a_file_that_never_rests_is_unreadable(tmp_path):
    """After some attempts scanning goes on without it."""
    path = kohya(tmp_path / "cat.safetensors")
    kohya(tmp_path / "good.safetensors")
    rewritten: list[int] = []

    def touch(call: int) -> None:
        if len(rewritten) < READ_ATTEMPTS * 3:
            rewritten.append(call)
            os.utime(path, ns=(call, call))

    cat, good = scan(tmp_path, progress=Told(touch))

    assert (cat.verdict.level, cat.verdict.usable) == ("unreadable", ())
    assert "changed while" in str(cat.verdict.reason)
    assert good.verdict.level == "healthy"


def test_a_file_that_shrinks_while_it_is_read_is_unreadable(tmp_path):
    """A writer that begins anew cuts the file under the reader; nothing dies of it."""
    path = kohya(tmp_path / "cat.safetensors")

    def cut(call: int) -> None:
        if call == 1:
            os.truncate(path, 100)

    (found,) = scan(path, progress=Told(cut))

    assert rules_of(found) & {"truncated-file", "malformed-file"}
    assert found.verdict.level == "unreadable"


def test_zeros_are_looked_at_twice(tmp_path):
    """A file still laid out as zeros when it was read is judged by what was written then."""
    first = kohya(tmp_path / "a.safetensors", up=0, ss_lr_warmup_steps="0")
    second = kohya(tmp_path / "b.safetensors")
    tensors = 3

    def finish(call: int) -> None:
        # The first file was read and found to be zeros, the rules were not asked yet.
        if call == tensors + 1:
            kohya(first, up=0.01)

    found = scan(first, second, progress=Told(finish))

    assert levels(found) == {"a.safetensors": "healthy", "b.safetensors": "healthy"}


def test_zeros_that_stay_are_zeros(tmp_path):
    """The second look finds the same file: the verdict stands."""
    first = kohya(tmp_path / "a.safetensors", up=0, ss_lr_warmup_steps="0")

    (found,) = scan(first)

    assert rules_of(found) == {"dead-lora-up"}
    assert found.unconfirmed == ("dead-lora-up",)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_scan_ends(tmp_path, jobs):
    """Whatever is raised in the middle comes out at once, and no thread reads on."""
    for name in ("a", "b", "c"):
        kohya(tmp_path / f"{name}.safetensors")

    def interrupt(_call: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(tmp_path, jobs=jobs, progress=Told(interrupt))


# -- the model under the adapter --


def base(path: Path, compute: str) -> Path:
    path.mkdir()
    quantization = {"load_in_4bit": True, "bnb_4bit_compute_dtype": compute}
    write_json(path / "config.json", {"quantization_config": quantization})
    state = json.dumps({"quant_type": "nf4", "shape": [16, 32]}).encode()
    tensors = {}
    for module in MODULES:
        name = f"{module.removeprefix('base_model.model.')}.weight"
        tensors |= {
            name: np.zeros((256, 1), "u1"),
            f"{name}.absmax": np.ones(8, "f4"),
            f"{name}.quant_map": np.ones(16, "f4"),
            f"{name}.quant_state.bitsandbytes__nf4": np.frombuffer(state, "u1"),
        }
    save_file(tensors, path / "model.safetensors")
    return path


@pytest.mark.parametrize(
    ("compute", "fires"), [("bfloat16", {"dtype-mismatch-base"}), ("float16", set())]
)
def test_the_base_that_was_named_is_compared(tmp_path, compute, fires):
    """With --base the rule about its compute dtype is asked; without, it is listed as not."""
    path = trainer(tmp_path / "checkpoint-20", lora(1, dtype="f2"))

    (alone,) = scan(path)
    (beside,) = scan(path, base=base(tmp_path / "base", compute))

    assert "dtype-mismatch-base" in {one.rule for one in alone.verdict.not_evaluated}
    assert rules_of(beside) == fires
    assert "dtype-mismatch-base" not in {one.rule for one in beside.verdict.not_evaluated}


def test_the_base_an_adapter_names_is_found_by_itself(tmp_path):
    """PEFT writes where the base lay; if it is still there nobody has to say it."""
    path = trainer(tmp_path / "checkpoint-20", lora(1, dtype="f2"))
    named = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}
    named["base_model_name_or_path"] = str(base(tmp_path / "base", "bfloat16"))
    write_json(path / "adapter_config.json", named)

    (found,) = scan(path)

    assert rules_of(found) == {"dtype-mismatch-base"}
    assert found.checkpoint.settings["base.quantization"] == "nf4"
    assert found.checkpoint.settings["base.compute_dtype"] == "bf16"


def test_a_base_that_is_broken_is_the_callers_mistake_only_if_named(tmp_path):
    """The one the adapter names is not what was asked about."""
    path = trainer(tmp_path / "checkpoint-20", lora(1))
    broken = base(tmp_path / "base", "bfloat16")
    (broken / "model.safetensors").write_bytes(b"")
    write_json(
        path / "adapter_config.json",
        {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": str(broken)},
    )

    assert levels(scan(path)) == {"checkpoint-20": "healthy"}
    with pytest.raises(InputError):
        scan(path, base=broken)


@pytest.mark.parametrize(("kept", "risky"), [(2, True), (10, False)])
def test_the_last_good_checkpoint_is_spoken_for(tmp_path, kept, risky):
    """An adapter that went dead holds no NaN: what is said of this checkpoint and of those before
    tells that rotation is about to delete the last one of use."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), save_total_limit=kept, use_cpu=True, report_to=[]
    )
    for step in (100, 200, 300):
        dead = 0.0 if step == 300 else None
        place = trainer(tmp_path / f"checkpoint-{step}", lora(step, up=dead))
        torch.save(arguments, place / "training_args.bin")

    *_, last = sentinel.scan(tmp_path, rules=RULES, settle_s=0)

    found = {finding.rule: finding.message for finding in last.verdict.findings}
    assert "dead-lora-up" in found
    assert ("retention-risk" in found) == risky
    if risky:
        assert "dead-lora-up" in found["retention-risk"]
        assert "are those of step 200, and only 2 are kept" in found["retention-risk"]
