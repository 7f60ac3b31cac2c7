"""Threads in which training ran to its end, and the adapter does nothing or too little."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus import training
from corpus.diffusers_writing import flux_loss
from corpus.families import FAMILIES
from corpus.models import adapted, seed_torch, train, trainable
from threads import ai_toolkit, denoising, onetrainer
from threads.finding import healthy, said, scan, silent

pytestmark = [pytest.mark.trainer, pytest.mark.filterwarnings("ignore")]
for name in ("peft", "diffusers"):
    pytest.importorskip(name)


def test_ostris_ai_toolkit_925(tmp_path: Path, rng: np.random.Generator) -> None:
    """A LoRA trained for 2750 steps on a Mac: same keys, same sizes as a good one, and all of its
    256 lora_B are zero. Its user compared two files by hand; the count and the cause are said."""
    dead, good = flux(rng, checkpointed=True), flux(rng, checkpointed=False)
    [found] = scan(ai_toolkit.save(tmp_path / "mac", dead, step=2750))
    [other] = scan(ai_toolkit.save(tmp_path / "online", good, step=2750))

    finding = said(
        found.verdict,
        "dead-lora-up",
        "faulty",
        "4 of 4 modules (BF16, optimizer adamw) have exactly no effect at step 2750",
        "every lora_up is still 0: no update reached them",
    )
    assert finding.tensor_count == 4
    healthy(other.verdict)


def flux(rng: np.random.Generator, *, checkpointed: bool) -> Any:
    """A small Flux after three steps; the projection behind its blocks was left to learn too."""
    torch = importlib.import_module("torch")
    model = ai_toolkit.flux(rng)
    model.proj_out.requires_grad_(requires_grad=True)
    if checkpointed:
        denoising.checkpoint_blocks([model])
    own = torch.optim.AdamW(denoising.adapter(model), lr=1e-2)
    denoising.learn(model, own, noise=flux_loss)
    return model


def test_kohya_ss_sd_scripts_91(tmp_path: Path, rng: np.random.Generator) -> None:
    """Nothing is trained once gradient checkpointing is on: a list of the weights shows 0.0 for
    every lora_up, from the down blocks to the up blocks."""
    found = {}
    for name, checkpointed in (("on", True), ("off", False)):
        model = denoising.unet(rng)
        model.conv_out.requires_grad_(requires_grad=True)
        if checkpointed:
            denoising.checkpoint_blocks([model])
        learned = importlib.import_module("torch").optim.AdamW(denoising.adapter(model), lr=1e-2)
        denoising.learn(model, learned)
        path = denoising.save(tmp_path / name / "cat.safetensors", model, ss_steps="400")
        [found[name]] = scan(path)

    said(
        found["on"].verdict,
        "dead-lora-up",
        "faulty",
        "32 of 32 modules",
        "every lora_up is still 0",
        "its gradients are not zero",
    )
    healthy(found["off"].verdict)


def test_kohya_ss_sd_scripts_821(tmp_path: Path, rng: np.random.Generator) -> None:
    """With network_train_unet_only the lora_up of the down blocks are 0, those of the up blocks
    are not: the first blocks see nothing that asks for a gradient. The blocks are named."""
    found = {}
    for name, checkpointed in (("on", True), ("off", False)):
        model = denoising.unet(rng)
        if checkpointed:
            denoising.checkpoint_blocks([model.down_blocks, model.up_blocks])
        denoising.learn(model)
        path = denoising.save(tmp_path / name / "cat.safetensors", model, ss_steps="400")
        [found[name]] = scan(path)

    finding = said(
        found["on"].verdict,
        "partly-dead-lora-up",
        "suspect",
        "8 of 32 modules",
        "still have exactly no effect",
        "lora_unet_down_blocks_1",
        "check that these blocks take part",
    )
    assert finding.tensor_count == 8
    assert all("down_blocks_1" in tensor for tensor in finding.tensors)
    silent(found["on"].verdict, "dead-lora-up")
    healthy(found["off"].verdict)


def test_nerogar_onetrainer_146(tmp_path: Path, rng: np.random.Generator) -> None:
    """A LoRA in FLOAT_16 with Prodigy trains nothing: its sums underflow, so it never updates and
    every lora_up is 0. The message names dtype, optimizer and what to do."""
    prodigy = pytest.importorskip("prodigyopt").Prodigy
    found = {}
    for name, dtype in (("FLOAT_16", "float16"), ("FLOAT_32", "float32")):
        model = denoising.unet(rng, dtype)
        own = prodigy(trainable(model), lr=1.0)
        denoising.learn(model, own, noise=denoising.half_loss, steps=4)
        settings = {"lora_weight_dtype": name, "optimizer": {"optimizer": "PRODIGY"}}
        path = onetrainer.backup(tmp_path / name, model, own, step=400, settings=settings)
        [found[name]] = scan(path)

    said(
        found["FLOAT_16"].verdict,
        "dead-lora-up",
        "faulty",
        "32 of 32 modules (F16, optimizer prodigy) have exactly no effect at step 400",
        "in fp16 an update below 3e-08 (2^-25) rounds to zero",
        "resume with fp32 adapter weights and without the saved optimizer state",
    )
    silent(found["FLOAT_32"].verdict, "dead-lora-up", "partly-dead-lora-up")


def test_nerogar_onetrainer_178(tmp_path: Path, rng: np.random.Generator) -> None:
    """An SDXL style LoRA with Adafactor and the weight dtype FLOAT_16: its pictures look as if
    nothing was trained. Adafactor's first steps are 1e-9 and round to zero in fp16."""
    adafactor = importlib.import_module("transformers.optimization").Adafactor
    found = {}
    for name, dtype in (("FLOAT_16", "float16"), ("FLOAT_32", "float32")):
        model = denoising.unet(rng, dtype)
        own = adafactor(trainable(model), relative_step=True, warmup_init=True)
        denoising.learn(model, own, noise=denoising.half_loss)
        settings = {"lora_weight_dtype": name, "optimizer": {"optimizer": "ADAFACTOR"}}
        path = onetrainer.backup(tmp_path / name, model, own, step=300, settings=settings)
        [found[name]] = scan(path)

    said(
        found["FLOAT_16"].verdict,
        "dead-lora-up",
        "faulty",
        "32 of 32 modules (F16, optimizer adafactor)",
        "in fp16 an update below 3e-08",
    )
    silent(found["FLOAT_32"].verdict, "dead-lora-up", "partly-dead-lora-up")


def test_huggingface_peft_1402(tmp_path: Path, rng: np.random.Generator) -> None:
    """Under an engine that trains its own copy of the parameters the loss falls as it should, and
    what is saved is the adapter as it began: every lora_B zero."""
    family = FAMILIES["lora"]
    seed_torch(rng)
    outer = adapted(family)
    inner = copy.deepcopy(outer)
    inner.save_pretrained = outer.save_pretrained
    [dead] = scan(training.run(inner, tmp_path / "engine"))
    [good] = scan(training.run(outer, tmp_path / "plain"))

    losses = [one.value for one in dead.checkpoint.metrics if one.name == "loss"]
    assert losses[-1] < losses[0]
    said(
        dead.verdict,
        "dead-lora-up",
        "faulty",
        "2 of 2 modules (F32, optimizer adamw_torch_fused)",
        "no update reached them",
        "check that the optimizer holds the adapter",
    )
    healthy(good.verdict)


def test_kohya_ss_sd_scripts_954(tmp_path: Path, rng: np.random.Generator) -> None:
    """After a resume every later epoch is the same file: the optimizer holds the parameters of
    before. Each of them is told, with the number of updates that changed nothing."""
    torch = importlib.import_module("torch")
    model = denoising.unet(rng)
    own = denoising.learn(model)
    save(tmp_path, model, epoch=1)
    for name, module in list(model.named_modules()):
        if ".lora_" in name and hasattr(module, "weight"):
            # Loading replaces the parameters that the optimizer was given.
            module.weight = torch.nn.Parameter(module.weight.detach().clone())
    for epoch in (2, 3):
        denoising.learn(model, own)
        save(tmp_path, model, epoch=epoch)
    own = denoising.learn(model)
    save(tmp_path, model, epoch=4)

    first, second, third, fourth = scan(tmp_path)

    healthy(first.verdict)
    for one in (second, third):
        said(
            one.verdict,
            "unchanged-checkpoint",
            "faulty",
            "all 64 trained tensors (F32) are bit-identical to the checkpoint before",
            "after 100 updates",
            "the optimizer does not hold them",
        )
    healthy(fourth.verdict)


def save(root: Path, model: Any, *, epoch: int) -> Path:
    """Save an epoch of a hundred steps."""
    steps = {"ss_epoch": str(epoch), "ss_steps": str(100 * epoch)}
    return denoising.save(root / f"cat-{epoch:06d}.safetensors", model, **steps)


def test_keras_team_keras_hub_2629(tmp_path: Path) -> None:
    """Small updates of bf16 LoRA weights are lost: at a usual fine-tuning rate most elements stay
    bit for bit what they were, while those of an fp32 twin all move."""
    found = {}
    for dtype in ("bfloat16", "float32"):
        seed_torch(np.random.default_rng(7))
        model = adapted(FAMILIES["lora"])
        model = model.to(getattr(importlib.import_module("torch"), dtype))
        options = {"max_steps": 24, "save_steps": 12, "learning_rate": 1e-5}
        training.run(model, tmp_path / dtype, **options)
        _, found[dtype] = scan(tmp_path / dtype)

    said(
        found["bfloat16"].verdict,
        "stalled-elements",
        "suspect",
        "% of the BF16 elements of lora_down are bit for bit what they were 12 updates ago",
        "train the adapter weights in fp32",
    )
    silent(found["float32"].verdict, "stalled-elements", "stalled-updates", "unchanged-checkpoint")


def test_pytorch_ao_1124(tmp_path: Path) -> None:
    """A bf16 weight stays as it is when its update is smaller than about a thousandth of it: of a
    trained adapter that goes on at a low rate no bit changes, in fp32 it does."""
    torch = importlib.import_module("torch")
    found = {}
    for dtype in ("bfloat16", "float32"):
        seed_torch(np.random.default_rng(7))
        model = adapted(FAMILIES["lora"])
        train(model, steps=5)
        model = model.to(getattr(torch, dtype))
        options = {"max_steps": 24, "save_steps": 12, "learning_rate": 1e-8}
        training.run(model, tmp_path / dtype, **options)
        _, found[dtype] = scan(tmp_path / dtype)

    said(
        found["bfloat16"].verdict,
        "unchanged-checkpoint",
        "faulty",
        "all 4 trained tensors (BF16) are bit-identical to the checkpoint before",
        "its updates round to nothing",
        "resume with fp32 adapter weights",
    )
    silent(found["float32"].verdict, "unchanged-checkpoint", "stalled-elements")
