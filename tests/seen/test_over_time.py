"""Rules about what changed from one checkpoint to the next, and what a resume would meet."""

from __future__ import annotations

import importlib
import json
import math
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from corpus.diffusers_writing import flux, script
from corpus.models import seed_torch, tiny_llama, trainable
from seen.trainings import END, HALF, begun, gone_on, lora, run
from threads import denoising, onetrainer
from threads.finding import healthy, said, scan, silent

if TYPE_CHECKING:
    import numpy as np

pytestmark = [pytest.mark.trainer, pytest.mark.filterwarnings("ignore")]
for name in ("peft", "transformers", "diffusers"):
    pytest.importorskip(name)

FIRST, LAST = f"checkpoint-{HALF}", f"checkpoint-{END}"


def test_learning_rate_zero(tmp_path: Path, rng: np.random.Generator) -> None:
    """A schedule of one's own that is over before the training is, and a rate never set. A warm-up
    that begins at 0 and a decay that ends there are as they should be."""
    found = {}
    for name, ends in (("over", 2), ("in time", END)):
        torch = importlib.import_module("torch")
        model = lora(rng)
        own = torch.optim.AdamW(trainable(model), lr=1e-3)
        schedule = torch.optim.lr_scheduler.LambdaLR(own, partial(falling, ends))
        run(model, tmp_path / name, optimizer=own, schedule=schedule)
        found[name] = scan(tmp_path / name)
    unset = scan(run(lora(rng), tmp_path / "unset", learning_rate=0.0))
    warm = {"lr_scheduler_type": "cosine", "warmup_steps": HALF, "save_steps": 1}

    said(
        found["over"][1].verdict,
        "learning-rate-zero",
        "suspect",
        "the learning rate is exactly 0 at step 8: the trainer has logged nothing else since step ",
        "on a resume of a finished run the number of steps too",
    )
    said(
        unset[0].verdict,
        "learning-rate-zero",
        "suspect",
        "at step 4: all 2 groups of the optimizer began with it, and nothing is trained",
    )
    for one in (*found["in time"], *scan(run(lora(rng), tmp_path / "warm", **warm))):
        silent(one.verdict, "learning-rate-zero")


def falling(ends: int, step: int) -> float:
    """Fall to 0 in so many steps."""
    return max(0.0, 1 - step / ends)


def test_loss_scale_dead(tmp_path: Path, rng: np.random.Generator) -> None:
    """torch's own scaler, halved by one gradient of Inf after another until it is 0. Halved three
    times it is alive, and so is one that never met such a gradient."""
    found = {}
    for overflows in (165, 3, 0):
        place = run(lora(rng), tmp_path / str(overflows))
        torch = importlib.import_module("torch")
        torch.save(scaler(overflows).state_dict(), place / LAST / "scaler.pt")
        _, found[overflows] = scan(place)

    said(
        found[165].verdict,
        "loss-scale-dead",
        "faulty",
        "the saved loss scale is 0 at step 8: the next step in fp16 makes the weights NaN",
        "resume from an earlier checkpoint in bf16 or fp32",
    )
    healthy(found[3].verdict)
    healthy(found[0].verdict)


def scaler(overflows: int) -> Any:
    """A gradient scaler that met so many gradients of Inf, and then a good one."""
    torch = importlib.import_module("torch")
    weight = torch.nn.Parameter(torch.ones(2))
    own, found = torch.optim.SGD([weight], lr=0.1), torch.amp.GradScaler("cpu")
    for loss in [math.inf] * (overflows + 1) if overflows > 3 else [math.inf] * overflows + [1.0]:
        own.zero_grad()
        found.scale(weight.sum() * loss).backward()
        found.step(own)
        found.update()
    return found


def test_optimizer_lost(tmp_path: Path, rng: np.random.Generator) -> None:
    """The optimizer's file of another run, whose adapter had another rank. One that holds only the
    half of the adapter that is trained (lora_A frozen), and LoRA+ with two rates, are quiet."""
    place = run(lora(rng), tmp_path / "mixed")
    other = run(lora(rng, r=8), tmp_path / "other")
    shutil.copy(other / LAST / "optimizer.pt", place / LAST / "optimizer.pt")
    frozen = lora(rng)
    for key, value in frozen.named_parameters():
        if "lora_A" in key:
            value.requires_grad_(requires_grad=False)

    before, after = scan(place)
    healthy(before.verdict)
    said(
        after.verdict,
        "optimizer-lost",
        "suspect",
        "holds moments of 8 parameters, and none of them has the size of any trained tensor",
        "it belongs to another run, or was built before the adapter was loaded",
    )
    plus = importlib.import_module("peft.optimizers").create_loraplus_optimizer
    torch, quick = importlib.import_module("torch"), lora(rng)
    own = plus(quick, torch.optim.AdamW, lr=1e-4, loraplus_lr_ratio=16)
    run(quick, tmp_path / "plus", optimizer=own)
    run(frozen, tmp_path / "frozen")
    for one in (*scan(tmp_path / "plus"), *scan(tmp_path / "frozen"), *scan(other)):
        healthy(one.verdict)


def test_optimizer_state_missing(tmp_path: Path, rng: np.random.Generator) -> None:
    """The last checkpoint lost its optimizer.pt. Where the resumed run's own arguments say
    save_only_model it is told, not doubted; a run that never saved one is quiet, and so is what
    diffusers' scripts write at their end."""
    lost = run(lora(rng), tmp_path / "lost")
    (lost / LAST / "optimizer.pt").unlink()
    model = lora(rng)
    begun(model, tmp_path / "meant")
    gone_on(model, tmp_path / "meant", save_only_model=True)
    never = scan(run(lora(rng), tmp_path / "never", save_only_model=True))

    before, after = scan(lost)
    healthy(before.verdict)
    said(
        after.verdict,
        "optimizer-state-missing",
        "suspect",
        "this checkpoint has no optimizer state, while the one at step 4 has",
        "look at the free space and the options of saving",
    )
    _, after = scan(tmp_path / "meant")
    said(after.verdict, "optimizer-state-missing", "healthy", "as save_only_model asks for")
    for one in (*never, *of_diffusers(tmp_path / "ended", rng)):
        healthy(one.verdict)


def of_diffusers(place: Path, rng: np.random.Generator, dtype: str = "float32") -> list[Any]:
    """What is said of a checkpoint of one of its scripts, and of the file at the run's end."""
    script(place, rng)
    flux(place, rng, dtype=dtype)
    return [*scan(place)]


def test_step_mismatch(tmp_path: Path, rng: np.random.Generator) -> None:
    """A directory renamed to a step it has not reached, and one with the state of an earlier one
    copied in. What goes on with another batch size counts on and is quiet."""
    renamed = run(lora(rng), tmp_path / "renamed")
    (renamed / LAST).rename(renamed / "checkpoint-800")
    mixed = run(lora(rng), tmp_path / "mixed")
    shutil.copy(mixed / FIRST / "trainer_state.json", mixed / LAST / "trainer_state.json")
    model = lora(rng)
    begun(model, tmp_path / "wider")
    gone_on(model, tmp_path / "wider", per_device_train_batch_size=4)

    _, found = scan(renamed)
    said(
        found.verdict,
        "step-mismatch",
        "suspect",
        "the directory's name says step 800, its state step 8; files of two checkpoints were mixed",
        "put the name right",
    )
    found = next(one for one in scan(mixed) if one.checkpoint.path.name == LAST)
    said(
        found.verdict,
        "step-mismatch",
        "suspect",
        "the directory's name says step 8, its state step 4; the optimizer has counted 8 steps",
    )
    for one in scan(tmp_path / "wider"):
        silent(one.verdict, "step-mismatch")


def test_precision_changed(tmp_path: Path, rng: np.random.Generator) -> None:
    """A run in fp32 goes on in fp16: a doubt. From bf16 to fp32 nothing is lost, and autocast over
    the same weights is only told, and so is a file in fp16 at the end of a run; the same precision
    is quiet."""
    found = {}
    for name, before, after, options in (
        ("worse", "float32", "float16", {"learning_rate": 1e-6, "adam_epsilon": 1e-4}),
        ("better", "bfloat16", "float32", {}),
        ("autocast", "float32", "float32", {"bf16": True}),
        ("same", "bfloat16", "bfloat16", {}),
    ):
        torch = importlib.import_module("torch")
        model = lora(rng).to(getattr(torch, before))
        begun(model, tmp_path / name)
        gone_on(model.to(getattr(torch, after)), tmp_path / name, **options)
        _, found[name] = scan(tmp_path / name)

    rule = "precision-changed"
    said(
        found["worse"].verdict,
        rule,
        "suspect",
        "not that of the one before: its tensors are F16 instead of F32 (8 tensors); resume with",
    )
    said(found["better"].verdict, rule, "healthy", "F32 instead of BF16 (8 tensors)")
    said(
        found["autocast"].verdict,
        rule,
        "healthy",
        "the one before: its mixed precision is bf16 instead of no; resume with",
    )
    silent(found["same"].verdict, rule)
    _, ended = of_diffusers(tmp_path / "ended", rng, "float16")
    said(ended.verdict, rule, "healthy", "its tensors are F16 instead of F32")


def test_base_quantization_changed(tmp_path: Path, rng: np.random.Generator) -> None:
    """A backup of OneTrainer over a base in NF4, the next over one in fp8: the adapter learned
    another base's errors. The same base, and one merely loaded in another float, are quiet."""
    found = {}
    for name, first, second in (
        ("changed", "NFLOAT_4", "FLOAT_8"),
        ("same", "NFLOAT_4", "NFLOAT_4"),
        ("floats", "FLOAT_32", "BFLOAT_16"),
    ):
        torch = importlib.import_module("torch")
        model = denoising.unet(rng)
        own = denoising.learn(model, torch.optim.AdamW(trainable(model), lr=1e-3))
        for step, dtype in ((10, first), (20, second)):
            settings = {"unet": {"weight_dtype": dtype}, "optimizer": {"optimizer": "ADAMW"}}
            onetrainer.backup(tmp_path / name, model, own, step=step, settings=settings)
            denoising.learn(model, own)
        _, found[name] = scan(tmp_path / name)

    said(
        found["changed"].verdict,
        "base-quantization-changed",
        "suspect",
        "the adapter was trained on a base quantised as nf4, and this checkpoint was trained on ",
        "resume with the quantisation of before",
    )
    silent(found["same"].verdict, "base-quantization-changed")
    silent(found["floats"].verdict, "base-quantization-changed")


def test_known_bad_version(tmp_path: Path, rng: np.random.Generator) -> None:
    """A whole model that Transformers 4.46.0 says it saved, trained with gradient accumulation,
    whose loss that release scaled wrongly. Without accumulation, and with 4.46.2, it is quiet."""
    found = {}
    for name, version, batches in (
        ("bad", "4.46.0", 2),
        ("not accumulated", "4.46.0", 1),
        ("repaired", "4.46.2", 2),
    ):
        seed_torch(rng)
        options = {"gradient_accumulation_steps": batches, "max_steps": 4, "save_steps": 4}
        config = run(tiny_llama(), tmp_path / name, **options) / "checkpoint-4" / "config.json"
        content = json.loads(config.read_text()) | {"transformers_version": version}
        config.write_text(json.dumps(content))
        [found[name]] = scan(tmp_path / name)

    said(
        found["bad"].verdict,
        "known-bad-version",
        "suspect",
        "transformers 4.46.0 scales the loss by the number of accumulated batches",
        "update to 4.46.2 or later",
    )
    silent(found["not accumulated"].verdict, "known-bad-version")
    silent(found["repaired"].verdict, "known-bad-version")
