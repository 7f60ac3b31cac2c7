"""Rules about what a trainer is asked to do: its own configuration or command, before step 1."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from onetrainer_facts import SETTINGS, over

from seen.trainings import END, begun, lora
from sentinel.preflight import Checked
from threads import denoising, onetrainer
from threads.finding import checked, healthy, said, scan, silent

if TYPE_CHECKING:
    import numpy as np

A100 = {"device.type": "cuda", "device.name": "NVIDIA A100", "device.bf16": True}
T4 = {"device.type": "cuda", "device.name": "Tesla T4", "device.bf16": False}
CPU = {"device.type": "cpu", "device.name": "AMD EPYC 7B12", "device.bf16": False}
MAC = {"device.type": "mps", "device.name": "Apple M2", "device.bf16": True}

LORA = {"training_method": "LORA", "learning_rate": 1.0}
KOHYA = (
    "accelerate launch train_network.py --pretrained_model_name_or_path base --output_dir out"
    " --network_module networks.lora --network_dim 16 --optimizer_type AdamW {}"
)
CLASSIFIER = (
    "python train.py --model_name_or_path base --use_peft --output_dir out --num_train_epochs 1"
    " --optim adamw_torch --lora_task_type {} {}"
)
MINICPM = (
    "torchrun finetune.py --model_name_or_path base --llm_type qwen2 --tune_vision true"
    " --use_lora true"
    " --bf16 true --bf16_full_eval true --fp16 false --fp16_full_eval false --output_dir out {}"
)
AXOLOTL = "base_model: base\nadapter: lora\nlora_r: 8\nmicro_batch_size: 1\noutput_dir: out\n"


def asked(path: Path, text: str, machine: dict[str, Any], **options: Any) -> Checked:
    """What is said of a configuration or a command."""
    path.write_text(text, encoding="utf-8")
    return checked(path, machine, **options)


def of_onetrainer(path: Path, machine: dict[str, Any], **changed: Any) -> Checked:
    """What is said of OneTrainer's whole configuration: its defaults, and what differs."""
    return asked(path, json.dumps(over(SETTINGS, {**LORA, **changed})), machine)


def test_fp16_adapter_configured(tmp_path: Path) -> None:
    """Prodigy over OneTrainer's fp16 weights never leaves 0. fp32 weights whose file is to be
    written in fp16, and fp16 autocast over them, are quiet."""
    prodigy = {"optimizer": {"optimizer": "PRODIGY"}, "train_dtype": "BFLOAT_16"}
    bad = of_onetrainer(tmp_path / "a.json", A100, **prodigy, lora_weight_dtype="FLOAT_16")
    output = {"lora_weight_dtype": "FLOAT_32", "output_dtype": "FLOAT_16"}
    written = of_onetrainer(tmp_path / "b.json", A100, **prodigy, **output)
    mixed = asked(tmp_path / "c.sh", KOHYA.format("--mixed_precision fp16"), T4)

    said(
        bad.verdict,
        "fp16-adapter-configured",
        "faulty",
        "the adapter would be trained in fp16, and prodigy keeps its estimate in fp16 too",
        "every lora_up stays exactly 0 and no error is raised; set lora_weight_dtype FLOAT_32",
    )
    healthy(written.verdict)
    healthy(mixed.verdict)


def test_loss_scaling_off(tmp_path: Path) -> None:
    """OneTrainer computes in fp16 over bf16 weights and then scales no loss; over fp32 weights it
    does, and in bf16 there is nothing to scale."""
    adamw = {"optimizer": {"optimizer": "ADAMW"}, "learning_rate": 1e-4}
    found = {
        (train, weight): of_onetrainer(
            tmp_path / f"{train}-{weight}.json",
            T4 if train == "FLOAT_16" else A100,
            **adamw,
            train_dtype=train,
            lora_weight_dtype=weight,
        )
        for train, weight in (
            ("FLOAT_16", "BFLOAT_16"),
            ("FLOAT_16", "FLOAT_32"),
            ("BFLOAT_16", "BFLOAT_16"),
        )
    }

    said(
        found.pop(("FLOAT_16", "BFLOAT_16")).verdict,
        "loss-scaling-off",
        "suspect",
        "train_dtype is FLOAT_16 and lora_weight_dtype BFLOAT_16",
        "so gradients below 6e-8 are lost",
    )
    for one in found.values():
        healthy(one.verdict)


def test_fp16_modules_configured(tmp_path: Path) -> None:
    """A head is trained whole over a base that Transformers loads in fp16: it stays in fp16. In
    bf16, over a base in fp32, and for a language model alone, it is quiet."""
    half = "--fp16 --torch_dtype float16"
    bad = asked(tmp_path / "a.sh", CLASSIFIER.format("SEQ_CLS", half), T4)
    named = f"{half} --lora_modules_to_save embed_tokens"
    embeds = asked(tmp_path / "b.sh", CLASSIFIER.format("CAUSAL_LM", named), T4)
    better = "--bf16 --torch_dtype bfloat16"
    quiet = (
        asked(tmp_path / "c.sh", CLASSIFIER.format("SEQ_CLS", better), A100),
        asked(tmp_path / "d.sh", CLASSIFIER.format("SEQ_CLS", "--fp16"), T4),
        asked(tmp_path / "e.sh", CLASSIFIER.format("CAUSAL_LM", half), T4),
    )

    said(
        bad.verdict,
        "fp16-modules-configured",
        "suspect",
        "the base would be loaded in fp16 and the new classification head trained whole in it",
        "PEFT casts the adapter alone to fp32",
    )
    said(embeds.verdict, "fp16-modules-configured", "suspect", "embed_tokens")
    for one in quiet:
        silent(one.verdict, "fp16-modules-configured")


def test_precision_refused(tmp_path: Path) -> None:
    """sd-scripts asserts that full_fp16 goes with mixed_precision fp16; Transformers takes one of
    fp16 and bf16. full_bf16 with its own autocast is what it asks for."""
    both = asked(tmp_path / "a.yaml", AXOLOTL + "fp16: true\nbf16: true\n", A100)
    full = asked(tmp_path / "a.sh", KOHYA.format("--full_fp16 --mixed_precision bf16"), A100)
    good = asked(tmp_path / "b.sh", KOHYA.format("--full_bf16 --mixed_precision bf16"), A100)

    rule = "precision-refused"
    said(both.verdict, rule, "faulty", "fp16 and bf16 are both asked for")
    said(
        full.verdict,
        "precision-refused",
        "faulty",
        "full_fp16 wants mixed_precision fp16, and it is bf16: the training would stop before",
    )
    silent(good.verdict, "precision-refused")


def test_precision_unsupported_by_device(tmp_path: Path) -> None:
    """bf16 on a T4, by its name too where torch says that it has bf16. On a CPU it is only told;
    Apple's chips and an A100 have it, and fp16 on a T4 is right."""
    bf16 = KOHYA.format("--mixed_precision bf16")
    rule = "precision-unsupported-by-device"
    for machine in (T4, {**T4, "device.bf16": True}):
        said(
            asked(tmp_path / "a.sh", bf16, machine).verdict,
            "precision-unsupported-by-device",
            "suspect",
            "Tesla T4 has no bf16 units, and the run asks for bf16 (mixed precision)",
            "use fp16 autocast over fp32 adapter weights",
        )
    said(asked(tmp_path / "a.sh", bf16, CPU).verdict, rule, "healthy", "AMD EPYC 7B12")
    for machine in (A100, MAC):
        healthy(asked(tmp_path / "a.sh", bf16, machine).verdict)
    half = asked(tmp_path / "b.sh", KOHYA.format("--mixed_precision fp16"), T4)
    silent(half.verdict, "precision-unsupported-by-device")


def test_prodigy_learning_rate(tmp_path: Path) -> None:
    """Prodigy at the rate that AdamW had before it in the same configuration. At 1.0, and AdamW at
    its own rate, it is quiet."""
    prodigy = {"optimizer": {"optimizer": "PRODIGY"}}
    low = of_onetrainer(tmp_path / "a.json", A100, **prodigy, learning_rate=1e-4)
    one = of_onetrainer(tmp_path / "b.json", A100, **prodigy)
    adamw = {"optimizer": {"optimizer": "ADAMW"}, "learning_rate": 1e-4}
    other = of_onetrainer(tmp_path / "c.json", A100, **adamw)

    said(
        low.verdict,
        "prodigy-learning-rate",
        "suspect",
        "the optimizer estimates its own learning rate and is given 0.0001, where it wants 1.0",
    )
    silent(one.verdict, "prodigy-learning-rate")
    silent(other.verdict, "prodigy-learning-rate")


def test_fp16_on_bf16_device(tmp_path: Path) -> None:
    """fp16 autocast on an A100 can work, so it is only told. On a T4 it is right."""
    half = KOHYA.format("--mixed_precision fp16")
    told = asked(tmp_path / "a.sh", half, A100)
    right = asked(tmp_path / "a.sh", half, T4)

    said(
        told.verdict,
        "fp16-on-bf16-device",
        "healthy",
        "the run uses fp16 autocast although NVIDIA A100 computes in bf16",
    )
    silent(right.verdict, "fp16-on-bf16-device")


def test_resume_ignored(tmp_path: Path) -> None:
    """MiniCPM-V's script takes --resume_from_checkpoint and begins at step 0. sd-scripts and
    LLaMA-Factory do resume."""
    asks = "--resume_from_checkpoint out/checkpoint-1000"
    bad = asked(tmp_path / "a.sh", MINICPM.format(asks), A100)
    fresh = asked(tmp_path / "b.sh", MINICPM.format(""), A100)
    state = asked(tmp_path / "c.sh", KOHYA.format("--resume out/cat-state"), A100)

    said(
        bad.verdict,
        "resume-ignored",
        "suspect",
        "--resume_from_checkpoint out/checkpoint-1000 is read and not used",
        "finetune.py calls trainer.train() without it and begins at step 0",
    )
    healthy(fresh.verdict)
    silent(state.verdict, "resume-ignored")


@pytest.mark.trainer
@pytest.mark.filterwarnings("ignore")
def test_resume_keeps_settings(tmp_path: Path, rng: np.random.Generator) -> None:
    """A resume from a checkpoint of a real run at another rate: the saved state brings the old one
    back. The same rate, and the adapter's weights alone, are quiet."""
    pytest.importorskip("peft")
    last = begun(lora(rng), tmp_path / "out") / "checkpoint-4"
    text = "model_name_or_path: b\nfinetuning_type: lora\nbf16: true\noutput_dir: new\n"
    resumed = f"{text}resume_from_checkpoint: {last}\n"
    lower = asked(tmp_path / "a.yaml", f"{resumed}learning_rate: 1.0e-4\n", A100)
    same = asked(tmp_path / "b.yaml", f"{resumed}learning_rate: 1.0e-3\n", A100)
    start = f"{text}adapter_name_or_path: {last}\nlearning_rate: 1.0e-4\n"
    weights = asked(tmp_path / "c.yaml", start, A100)

    said(
        lower.verdict,
        "resume-keeps-settings",
        "suspect",
        "the learning rate 0.0001 would not take effect: the saved optimizer state brings 0.001 ",
        "give the checkpoint as adapter_name_or_path instead",
    )
    silent(same.verdict, "resume-keeps-settings")
    silent(weights.verdict, "resume-keeps-settings")


@pytest.mark.trainer
@pytest.mark.filterwarnings("ignore")
def test_adafactor_scale_configured(tmp_path: Path, rng: np.random.Generator) -> None:
    """A LoRA whose header says that sd-scripts gave Adafactor no scale_parameter=False, which is
    on by default there. Given off, another optimizer, and OneTrainer's own default are quiet."""
    pytest.importorskip("diffusers")
    torch = importlib.import_module("torch")
    model = denoising.unet(rng)
    own = denoising.learn(model, torch.optim.AdamW(denoising.adapter(model), lr=1e-2))
    adafactor = "transformers.optimization.Adafactor({})"
    found = {}
    for name, told in (
        ("default", adafactor.format("relative_step=True")),
        ("off", adafactor.format("relative_step=False,scale_parameter=False")),
        ("adamw", "torch.optim.adamw.AdamW"),
    ):
        path = tmp_path / name / "cat.safetensors"
        [found[name]] = scan(denoising.save(path, model, ss_optimizer=told))
    settings = {"optimizer": {"optimizer": "ADAFACTOR"}, "learning_rate": 1e-4}
    onetrainer.backup(tmp_path / "one", model, own, step=END, settings=settings)

    said(
        found["default"].verdict,
        "adafactor-scale-configured",
        "suspect",
        "the optimizer is Adafactor and scale_parameter is left at its default, on",
        "every lora_up moves at a thousandth of the learning rate",
    )
    for one in (found["off"], found["adamw"], *scan(tmp_path / "one")):
        silent(one.verdict, "adafactor-scale-configured")
