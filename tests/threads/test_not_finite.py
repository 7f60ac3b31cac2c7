"""Threads in which NaN reached the weights: how it began, and who loaded it without a word."""

from __future__ import annotations

import importlib
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from corpus import training
from corpus.diffusers_writing import flux_loss
from corpus.families import FAMILIES
from corpus.models import adapted, seed_torch, tiny_llama, train, trainable
from threads import ai_toolkit, denoising, onetrainer
from threads.finding import healthy, said, scan, silent

pytestmark = [pytest.mark.trainer, pytest.mark.filterwarnings("ignore")]
for name in ("peft", "diffusers"):
    pytest.importorskip(name)

KINDS = (
    *("attn1", "attn2", "audio_attn1", "audio_attn2"),
    *("audio_to_video_attn", "video_to_audio_attn"),
)
"""The attentions of a block of LTX-2, each with a gate."""

TOO_HIGH = 1e38
"""A learning rate from which no training comes back."""


def test_kohya_ss_sd_scripts_1914(tmp_path: Path, rng: np.random.Generator) -> None:
    """full_fp16 with AdamW gives NaN: its epsilon of 1e-8 and the squares of small gradients are
    both 0 in fp16. With fp32 weights the same training is healthy."""
    found = {}
    for dtype, full in (("float16", "True"), ("float32", "False")):
        torch = seed_torch(rng)
        model = denoising.unet(rng, dtype)
        own = torch.optim.AdamW(trainable(model), lr=1e-4, foreach=False)
        denoising.learn(model, own, noise=denoising.half_loss)
        told = {"ss_full_fp16": full, "ss_mixed_precision": "fp16", "ss_steps": "100"}
        [found[dtype]] = scan(denoising.save(tmp_path / dtype / "cat.safetensors", model, **told))

    said(
        found["float16"].verdict,
        "nan-values",
        "faulty",
        "of 96 tensors hold NaN at step 100",
        "the first in 'lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_",
        "in fp16 values above 65504 overflow and the squares of small gradients vanish",
    )
    silent(found["float32"].verdict, "nan-values", "fp16-lora-weights")


def test_kohya_ss_sd_scripts_293(tmp_path: Path, rng: np.random.Generator) -> None:
    """loss=nan from the second epoch on, and LoRAs are saved as if nothing was amiss: the first
    epoch's file is the one to keep, and the later ones are told apart from it."""
    torch = importlib.import_module("torch")
    model = denoising.unet(rng)
    own = denoising.learn(model, torch.optim.SGD(trainable(model), lr=1e-2, momentum=0.9))
    epoch(tmp_path, model, 1)
    own.param_groups[0]["lr"] = TOO_HIGH
    denoising.learn(model, own)
    epoch(tmp_path, model, 2)

    first, second = scan(tmp_path)

    healthy(first.verdict)
    said(
        second.verdict,
        "nan-values",
        "faulty",
        "of 96 tensors hold NaN at step 200",
        "the run has diverged, and f32 is not the reason",
        "resume from the last good checkpoint with a lower learning rate",
    )
    assert first.verdict.usable == ("weights",)
    assert second.verdict.usable == ()


def epoch(root: Path, model: Any, number: int) -> Path:
    steps = {"ss_epoch": str(number), "ss_steps": str(100 * number)}
    return denoising.save(root / f"cat-{number:06d}.safetensors", model, **steps)


def test_ostris_ai_toolkit_975(tmp_path: Path, rng: np.random.Generator) -> None:
    """Exactly 287 tensors are NaN, all of them lora_B of to_gate_logits; the user wrote a script
    to see it. They are counted, and what their names share is told instead of 287 names."""
    places = [(block, kind) for block in range(48) for kind in KINDS][:287]
    found = {}
    for name, value in (("broken", np.nan), ("whole", 0.01)):
        tensors: dict[str, np.ndarray] = {}
        for (block, kind), module in product(places, ("to_q", "to_gate_logits")):
            key = f"diffusion_model.transformer_blocks.{block}.{kind}.{module}"
            up = value if module == "to_gate_logits" else 0.01
            tensors[f"{key}.lora_A.weight"] = rng.normal(0, 0.1, (2, 8)).astype("f4")
            tensors[f"{key}.lora_B.weight"] = np.full((8, 2), up, "f4")
        path = tmp_path / name / "ltx_000003000.safetensors"
        path.parent.mkdir()
        save_file(tensors, path, ai_toolkit.header(3000))
        [found[name]] = scan(path)

    finding = said(
        found["broken"].verdict,
        "nan-values",
        "faulty",
        "287 of 1148 tensors hold NaN at step 3000, 4592 in all",
        "the first in 'diffusion_model.transformer_blocks.0.attn1.to_gate_logits.lora_B.weight'",
        "(F32, all of them '*.to_gate_logits.lora_B.weight')",
    )
    assert finding.tensor_count == 287
    silent(found["whole"].verdict, "nan-values")


def test_ostris_ai_toolkit_544(tmp_path: Path, rng: np.random.Generator) -> None:
    """`loss is nan` and black samples, and a file of just the size that it should have. It is said
    what is in it, and that the run has diverged."""
    torch = importlib.import_module("torch")
    model = ai_toolkit.flux(rng)
    own = torch.optim.AdamW(denoising.adapter(model), lr=1e-2)
    denoising.learn(model, own, noise=flux_loss)
    good = ai_toolkit.save(tmp_path, model, step=250)
    own.param_groups[0]["lr"] = 1e30
    denoising.learn(model, own, noise=flux_loss)
    bad = ai_toolkit.save(tmp_path, model, step=500)
    first, second = scan(tmp_path)

    assert good.stat().st_size == bad.stat().st_size
    healthy(first.verdict)
    said(
        second.verdict,
        "nan-values",
        "faulty",
        "8 of 8 tensors hold NaN at step 500",
        "(BF16): the run has diverged",
    )


def test_getainode_ainode_186(tmp_path: Path, rng: np.random.Generator) -> None:
    """An adapter of 2,162,688 values, every one of them NaN, recorded as a job well done. Rank 16
    over the attention of a model of 24 layers has just as many."""
    model = qwen(rng)
    torch = importlib.import_module("torch")
    model.save_pretrained(tmp_path / "begun")
    train(model, torch.optim.AdamW(trainable(model), lr=1e30), steps=3)
    model.save_pretrained(tmp_path / "ended")
    [first], [last] = scan(tmp_path / "begun"), scan(tmp_path / "ended")

    said(
        last.verdict,
        "nan-values",
        "faulty",
        "192 of 192 tensors hold NaN in this checkpoint, 2162688 in all",
        "the run has diverged",
    )
    assert sum(math.prod(tensor.shape) for tensor in last.checkpoint.tensors) == 2_162_688
    assert last.verdict.usable == ()
    silent(first.verdict, "nan-values")


def qwen(rng: np.random.Generator) -> Any:
    """A model of Qwen2.5-0.5B's attention, with next to nothing between, and its adapter."""
    torch = seed_torch(rng)
    transformers, peft = (importlib.import_module(name) for name in ("transformers", "peft"))
    initialization = importlib.import_module("transformers.initialization")
    config = transformers.Qwen2Config(
        vocab_size=64,
        hidden_size=896,
        intermediate_size=8,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
    )
    with initialization.no_init_weights():
        base = transformers.Qwen2ForCausalLM(config)
    for parameter in base.parameters():
        torch.nn.init.constant_(parameter, 0.01)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    adapter = peft.LoraConfig(r=16, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM")
    return peft.get_peft_model(base, adapter)


def test_hiyouga_llama_factory_2916(tmp_path: Path, rng: np.random.Generator) -> None:
    """loss 0.0 and grad_norm nan from the first step to the last: the activations of the fp16
    base pass 65504, and the log shows a NaN loss as 0."""
    found = {}
    for name, size in (("overflows", 1e7), ("fits", 1.0)):
        seed_torch(rng)
        base = tiny_llama()
        base.model.embed_tokens.weight.data.mul_(size)
        model = adapted(FAMILIES["lora"], base.half())
        [found[name]] = scan(training.run(model, tmp_path / name, learning_rate=1e-4))

    said(
        found["overflows"].verdict,
        "loss-zero",
        "faulty",
        "the logged loss is exactly 0 at step 4",
        "(4 times in a row, gradient norm nan)",
        "the real loss was NaN and the trainer hid it",
    )
    said(found["overflows"].verdict, "nan-values", "faulty", "4 of 4 tensors hold NaN at step 4")
    healthy(found["fits"].verdict)


def test_huggingface_peft_1522(tmp_path: Path, rng: np.random.Generator) -> None:
    """A classifier over an fp16 base: PEFT casts its matrices to fp32 and leaves the head in fp16,
    which is lost at the first step, and all others with it at the second. The head is named."""
    found = {}
    for dtype in ("float16", "bfloat16"):
        model = classifier(rng, dtype)
        options = {"optim": "adamw_torch", "max_steps": 2, "save_steps": 1, "learning_rate": 1e-3}
        training.run(model, tmp_path / dtype, inputs={"labels": [0, 1]}, **options)
        found[dtype] = scan(tmp_path / dtype)

    first, second = found["float16"]
    said(
        first.verdict,
        "inf-values",
        "faulty",
        "1 of 5 tensors hold Inf at step 1, 64 in all",
        "the first in 'base_model.model.score.weight' (F16)",
        "only the fp16 head in modules_to_save is hit, which PEFT does not cast to fp32",
    )
    said(first.verdict, "mixed-dtypes", "faulty", "F16")
    said(second.verdict, "nan-values", "faulty", "5 of 5 tensors hold NaN at step 2")
    said(second.verdict, "loss-zero", "faulty", "the logged loss is exactly 0 at step 2")
    for one in found["bfloat16"]:
        healthy(one.verdict)


def classifier(rng: np.random.Generator, dtype: str) -> Any:
    """An adapter for two classes over a base in one dtype."""
    torch = seed_torch(rng)
    peft = importlib.import_module("peft")
    base = tiny_llama(head="SequenceClassification").to(getattr(torch, dtype))
    # A base that was trained is surer of itself than a random one: its head's gradients are small.
    base.model.norm.weight.data.fill_(1e-3)
    targets = ["q_proj", "v_proj"]
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="SEQ_CLS")
    return peft.get_peft_model(base, config)


def test_nerogar_onetrainer_1147(tmp_path: Path, rng: np.random.Generator) -> None:
    """Asked for: stop when the loss is NaN, before weights and backups are lost. The backup with
    NaN is told, its optimizer too, and the one before it stays the one to go on from."""
    torch = importlib.import_module("torch")
    model = denoising.unet(rng)
    own = denoising.learn(model, torch.optim.AdamW(trainable(model), lr=1e-3))
    settings = {"optimizer": {"optimizer": "ADAMW"}}
    onetrainer.backup(tmp_path, model, own, step=10, settings=settings)
    own.param_groups[0]["lr"] = TOO_HIGH
    denoising.learn(model, own)
    onetrainer.backup(tmp_path, model, own, step=20, settings=settings)

    good, bad = scan(tmp_path)

    healthy(good.verdict)
    assert good.verdict.usable == ("weights", "optimizer", "state")
    said(bad.verdict, "nan-values", "faulty", "at step 20", "the run has diverged")
    said(bad.verdict, "optimizer-nan", "faulty", "holds NaN or Inf at step 20")


def test_kyutai_labs_pocket_tts_262(tmp_path: Path, rng: np.random.Generator) -> None:
    """NaN came in, and a rotation that keeps three checkpoints went on until every healthy one
    was gone. Said while the last healthy one is still there: the next save deletes it."""
    found = {}
    for name, kept in (("rotates", 3), ("keeps", 10)):
        torch = seed_torch(rng)
        model = adapted(FAMILIES["lora"])
        own = torch.optim.SGD(trainable(model), lr=1e-2)
        diverge_at(own, 3)
        options = {"save_steps": 1, "save_total_limit": kept}
        training.run(model, tmp_path / name, optimizer=own, **options)
        found[name] = scan(tmp_path / name)

    assert [one.checkpoint.step for one in found["rotates"]] == [2, 3, 4]
    said(
        found["rotates"][-1].verdict,
        "retention-risk",
        "faulty",
        "the last good ones are those of step 2, and only 3 are kept",
        "the next save deletes it",
    )
    silent(found["rotates"][0].verdict, "retention-risk", "nan-values")
    said(found["keeps"][-1].verdict, "nan-values", "faulty")
    silent(found["keeps"][-1].verdict, "retention-risk")


def diverge_at(optimizer: Any, step: int) -> None:
    """Let the learning rate jump away before a step, as a wrong schedule does."""
    taken = iter(range(1, 1000))

    def jump(own: Any, _arguments: Any, _options: Any) -> None:
        if next(taken) == step:
            own.param_groups[0]["lr"] = math.inf

    optimizer.register_step_pre_hook(jump)
