"""Threads of DoRA: norms of zero, dtypes that do not meet, and an optimizer that goes by size."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from corpus.diffusers_writing import layers_of
from corpus.families import FAMILIES
from corpus.models import adapted, seed_torch, tiny_llama, train, trainable
from threads import denoising, onetrainer
from threads.finding import checked, said, scan, silent

if TYPE_CHECKING:
    import numpy as np

pytestmark = [pytest.mark.trainer, pytest.mark.filterwarnings("ignore")]
for name in ("peft", "diffusers"):
    pytest.importorskip(name)


def test_huggingface_peft_2049(tmp_path: Path, rng: np.random.Generator) -> None:
    """A DoRA is NaN from its first step, because rows of the base's o_proj are exactly zero and
    their norm divides. Seen before the first step from the base, with the number of rows."""
    found = {}
    for name, rows in (("zero", 5), ("whole", 0)):
        seed_torch(rng)
        base = tiny_llama()
        base.model.layers[0].self_attn.o_proj.weight.data[:rows] = 0
        base.save_pretrained(tmp_path / name / "base")
        model = adapted(FAMILIES["lora"], base, use_dora=True, target_modules=["q_proj", "o_proj"])
        model.save_pretrained(tmp_path / name / "start")
        [found[name]] = scan(tmp_path / name / "start", base=tmp_path / name / "base")
        train(model, steps=2)
        layers = layers_of(model).values()
        assert any(bool(value.isnan().any()) for value in layers) == (rows > 0)
        path = tmp_path / name / "trained"
        model.save_pretrained(path)
        [found[f"{name} trained"]] = scan(path, base=tmp_path / name / "base")

    said(
        found["zero"].verdict,
        "dora-zero-norm-rows",
        "suspect",
        "5 rows of the base under 1 of 2 DoRA modules are exactly zero",
        "o_proj",
        "dividing by their norm gives NaN at the first step",
    )
    said(found["zero trained"].verdict, "nan-values", "faulty", "of 6 tensors hold NaN")
    for one in ("whole", "whole trained"):
        silent(found[one].verdict, "dora-zero-norm-rows", "dora-magnitude", "nan-values")


def test_kohakublueleaf_lycoris_166(tmp_path: Path, rng: np.random.Generator) -> None:
    """DoRA divides by the norm of each row of the base, and some rows are zero. Their magnitudes
    are zero in LyCORIS' own file: it is told how many there are and in which tensor."""
    pytest.importorskip("lycoris")
    found = {}
    for name, rows in (("zero", 3), ("whole", 0)):
        torch = seed_torch(rng)
        lycoris = importlib.import_module("lycoris")
        net = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Linear(16, 16))
        net[1].weight.data[:rows] = 0
        net[1].weight.data[:, :rows] = 0
        options = {"algo": "lora", "linear_dim": 4, "linear_alpha": 4, "dora_wd": True}
        lycoris.LycorisNetwork.apply_preset({"target_module": ["Linear"]})
        network = lycoris.create_lycoris(net, 1.0, **options)
        network.apply_to()
        path = tmp_path / f"{name}.safetensors"
        network.save_weights(str(path), torch.float32, {"ss_steps": "0"})
        [found[name]] = scan(path)

    finding = said(
        found["zero"].verdict,
        "dora-magnitude",
        "suspect",
        "1 of 2 DoRA magnitudes hold zeros or negative values",
        "3 zeros, smallest 0 in 'lycoris_1.dora_scale'",
    )
    assert finding.tensors == ("lycoris_1.dora_scale",)
    silent(found["whole"].verdict, "dora-magnitude")


def test_nerogar_onetrainer_1479(tmp_path: Path, rng: np.random.Generator) -> None:
    """A DoRA in BFLOAT_16 stops with `self and mat2 must have the same dtype`, in float it runs:
    its magnitude is added to weights in fp32. The switch is named."""
    torch = importlib.import_module("torch")
    found = {}
    for name, dtype in (("BFLOAT_16", "bfloat16"), ("FLOAT_32", "float32")):
        seed_torch(rng)
        model = denoising.unet(rng, use_dora=True)
        own = denoising.learn(model, torch.optim.AdamW(trainable(model), lr=1e-4))
        model.to(getattr(torch, dtype))
        settings = {"lora_weight_dtype": name, "train_dtype": "FLOAT_32", "lora_decompose": True}
        path = onetrainer.backup(tmp_path / name, model, own, step=10, settings=settings)
        [found[name]] = scan(path)

    said(
        found["BFLOAT_16"].verdict,
        "dtype-mismatch-base",
        "suspect",
        "96 of 96 half-precision adapter tensors are BF16, but the base computes in F32",
        "DoRA kernels refuse to multiply the two",
        "train the adapter in fp32",
    )
    silent(found["FLOAT_32"].verdict, "dtype-mismatch-base")


def test_nerogar_onetrainer_455(tmp_path: Path, rng: np.random.Generator) -> None:
    """A DoRA with Adafactor's scale_parameter on gives noise: steps follow the size of what they
    change, and a lora_up begins at 0. Told from the configuration before step 1, and from the
    saved state with the number of tensors that it happens to."""
    adafactor = importlib.import_module("transformers.optimization").Adafactor
    found: dict[str, Any] = {}
    for name, scales in (("on", True), ("off", False)):
        model = denoising.unet(rng, use_dora=True)
        options = {"scale_parameter": scales, "relative_step": False, "lr": 1e-4}
        own = denoising.learn(model, adafactor(trainable(model), **options), steps=6)
        chosen = {"optimizer": "ADAFACTOR", "scale_parameter": scales, "relative_step": False}
        settings = {"learning_rate": 1e-4, "optimizer": chosen}
        path = onetrainer.backup(tmp_path / name, model, own, step=6, settings=settings)
        [found[name]] = scan(path)
        found[f"{name} asked"] = checked(path / onetrainer.ARGS, {})

    said(
        found["on asked"].verdict,
        "adafactor-settings",
        "suspect",
        "scale_parameter",
        "relative_step",
    )
    silent(found["off asked"].verdict, "adafactor-settings")
    said(
        found["on"].verdict,
        "adafactor-scale-parameter",
        "suspect",
        "scale_parameter on and 32 of 96 parameters are no larger than eps2 at step 6",
        "set scale_parameter False, relative_step False",
    )
    silent(found["off"].verdict, "adafactor-scale-parameter", "dead-lora-up")
