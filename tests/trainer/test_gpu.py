# ruff: noqa: PLC0415 - torch is loaded only where it is needed
"""What only a GPU shows: skipped where torch finds none."""

from __future__ import annotations

import json

import pytest

import sentinel

pytestmark = [pytest.mark.trainer, pytest.mark.gpu]


@pytest.fixture(autouse=True, scope="module")
def gpu():
    """The GPU's name."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU")
    return torch.cuda.get_device_name()


def losses_of(output_dir):
    lines = (output_dir / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line["loss"] for line in map(json.loads, lines)}


def test_the_manifest_and_sentinel_name_the_gpu(train, tmp_path, gpu):
    """What the trainer wrote down is what sentinel finds without torch."""
    from sentinel.machine.device import gpus

    assert train(tmp_path, training__steps=2) == 0
    manifest = json.loads((tmp_path / "checkpoint-2" / "sentinel_manifest.json").read_text())
    assert manifest["device"]["type"] == "cuda"
    assert manifest["device"]["name"] == gpu
    (first, *_) = gpus()
    assert first.name == gpu
    assert float(manifest["device"]["capability"]) == first.capability


@pytest.mark.parametrize(
    "settings",
    [
        {"base__quantization": "int8", "adapter__method": "dora"},
        {"adapter__init": "loftq"},
        {"base__quantization": "int8", "base__compute_dtype": "fp16"},
        {"base__quantization": "fp4", "base__compute_dtype": "bf16"},
    ],
)
def test_what_a_processor_is_refused_trains_and_goes_on(train, tmp_path, settings):
    """A resume's first loss is the uninterrupted one's, as far as a GPU's sums repeat."""
    settings |= {"adapter__dropout": 0, "training__steps": 4}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole, **settings) == 0
    assert train(parts, "--resume", whole / "checkpoint-2", **settings) == 0
    after = {step: loss for step, loss in losses_of(whole).items() if step > 2}
    assert losses_of(parts) == pytest.approx(after, rel=1e-3)
    assert {each.verdict.level for each in sentinel.scan(whole, settle_s=0)} == {"healthy"}


@pytest.mark.parametrize("optimizer", ["paged-adamw", "paged-adamw-8bit"])
def test_a_paged_optimizer_under_a_scaler_goes_on_with_both(train, tmp_path, optimizer):
    """QLoRA of a GPU without bf16: NF4, fp16 autocast, fp32 adapter, pages and a scale."""
    import torch

    settings = {
        "base__quantization": "nf4",
        "base__double_quant": "true",
        "base__compute_dtype": "fp16",
        "training__mixed_precision": "fp16",
        "training__grad_scaler": "true",
        "training__gradient_checkpointing": "true",
        "training__optimizer": f"{{name: {optimizer}}}",
        "training__steps": 4,
        "adapter__dropout": 0,
    }
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole, **settings) == 0
    assert train(parts, "--resume", whole / "checkpoint-2", **settings) == 0
    after = {step: loss for step, loss in losses_of(whole).items() if step > 2}
    assert losses_of(parts) == pytest.approx(after, rel=1e-3)
    scales = [
        torch.load(place / "checkpoint-4" / "scaler.pt", weights_only=True)
        for place in (whole, parts)
    ]
    assert scales[0] == scales[1]
    assert scales[0]["scale"] > 1


def test_a_full_gpu_is_said_with_its_numbers_and_what_to_change(train, tmp_path, capsys):
    """torch may allocate 1 GiB here; the logits of one step take more than that."""
    import torch

    (tmp_path / "long.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 100_000)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((1 << 30) / total)
    try:
        code = train(
            tmp_path / "out",
            data=f"{{files: {tmp_path / 'long.txt'}, block_size: 512}}",
            training__batch_size=4096,
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    told = capsys.readouterr().err
    assert code == 3
    assert "out of memory after step 0" in told
    assert "of the GPU's" in told
    assert "training.batch_size=2048 and training.gradient_accumulation=2" in told
