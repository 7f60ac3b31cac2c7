"""Every setting's name, its type and its meaning, the same over all layouts.

`docs/settings.md` is made from this; a reader that finds a new fact adds its name here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a setting holds: ``kind`` is text, number, count or switch; numbers may be NaN."""

    kind: str
    words: str


def _text(words: str) -> Meaning:
    return Meaning("text", words)


def _number(words: str) -> Meaning:
    return Meaning("number", words)


def _count(words: str) -> Meaning:
    return Meaning("count", words)


def _switch(words: str) -> Meaning:
    return Meaning("switch", words)


SETTING_NAMES: Mapping[str, Meaning] = MappingProxyType(
    {
        "adapter.method": _text("family of the adapter (`lora`, `dora`, `loha`, ...)"),
        "adapter.rank": _number("rank, where no pattern says otherwise"),
        "adapter.alpha": _number("alpha, where no pattern says otherwise"),
        "adapter.init": _text("initialisation; `default` is the library's own"),
        "adapter.network_module": _text("class of the adapter, as sd-scripts was told"),
        "adapter.rslora": _switch("scale is alpha / sqrt(rank)"),
        "adapter.dropout": _number("share of the input dropped in training"),
        "adapter.bias": _text("which biases are trained, where any are"),
        "adapter.task": _text("task the adapter was trained for, as its file names it"),
        "adapter.targets": _text("modules that carry the adapter, as PEFT was told"),
        "adapter.target_parameters": _text("parameters that carry the adapter themselves (JSON)"),
        "adapter.layer_replication": _text("ranges of layers of the base that are repeated (JSON)"),
        "adapter.rank_pattern": _text("modules of another rank (JSON)"),
        "adapter.alpha_pattern": _text("modules of another alpha (JSON)"),
        "adapter.modules_to_save": _text("modules that are trained and saved whole (JSON)"),
        "adapter.dtype": _text("precision of the adapter in sentinel-train's manifest"),
        "base.path": _text("the model under the adapter, by path or name"),
        "base.revision": _text("revision of the base on the hub"),
        "base.name": _text("name of the base, as a GGUF file has it"),
        "base.url": _text("address of the base, as a GGUF file has it"),
        "base.version": _text("kind of base model, as sd-scripts and ai-toolkit name it"),
        "base.architecture": _text("class of the base model"),
        "base.quantization": _text("scheme the base is packed in (`nf4`, `int8`, `none`, ...)"),
        "base.double_quant": _switch("the sizes of the base's blocks are packed too"),
        "base.fingerprint": _text("sentinel-train's digest of the base"),
        "base.dtype": _text("precision the base is loaded in, as a configuration asks for it"),
        "base.compute_dtype": _text("precision the packed base is multiplied in"),
        "model.architecture": _text("class of the model that was saved whole"),
        "model.name": _text("name of the model, as a GGUF file has it"),
        "model.size": _text("size of the model in words (`7B`), as a GGUF file has it"),
        "model.quantized_by": _text("who packed the model"),
        "keys.wrappers": _text("what wrappers put into the tensors' names"),
        "optimizer.name": _text("optimizer, as its trainer names it"),
        "optimizer.learning_rate": _number("rate that was asked for"),
        "optimizer.unet_learning_rate": _number("rate of the denoiser, where it has its own"),
        "optimizer.text_encoder_learning_rate": _number("rate of the text encoders"),
        "optimizer.beta1": _number("decay of the first moment"),
        "optimizer.beta2": _number("decay of the second moment"),
        "optimizer.eps": _number("what is added to the root of the second moment"),
        "optimizer.weight_decay": _number("weight decay"),
        "precision.master": _text("precision of the master weights an engine keeps"),
        "precision.training": _text(
            "precision the forward pass computed in: `fp32`, `fp16`, `bf16`, `fp8`"
        ),
        "precision.mixed": _text("what the autocast was told; `no` without one"),
        "precision.adapter": _text("precision the adapter's weights were trained in"),
        "precision.lora_dtype": _text("precision asked for the adapter's weights"),
        "precision.output": _text("precision of the file, where it is not that of the training"),
        "precision.full_fp16": _switch("weights and gradients in fp16 too"),
        "precision.full_bf16": _switch("weights and gradients in bf16 too"),
        "precision.fp8_base": _switch("the base in fp8"),
        "precision.fp16": _switch("Transformers' switch of that name, before step 1"),
        "precision.bf16": _switch("Transformers' switch of that name, before step 1"),
        "precision.tf32": _switch("matrices multiplied in TF32"),
        "precision.scaler_scale": _number("loss scale of fp16; 0 or NaN means no step any more"),
        "precision.scaler_growth_tracker": _count("steps since the loss scale changed"),
        "resume.path": _text("checkpoint the trainer was told to resume from"),
        "resume.adapter": _text("adapter whose weights alone a training begins with"),
        "resume.ignore_data_skip": _switch("a resume begins the data anew"),
        "scheduler.name": _text("learning rate schedule"),
        "scheduler.warmup_steps": _count("steps of warm-up"),
        "scheduler.warmup_ratio": _number("warm-up as a share of the training"),
        "scheduler.base_lr": _number("rate the schedule starts from; the largest of all groups"),
        "scheduler.last_lr": _number("rate of the next step; the largest of all groups"),
        "scheduler.steps": _count("steps the schedule has made"),
        "training.batch_size": _count("examples a device and forward pass"),
        "training.gradient_accumulation_steps": _count("forward passes a step"),
        "training.gradient_checkpointing": _switch("activations are computed again"),
        "training.max_grad_norm": _number("norm that gradients are cut to; 0 for none"),
        "training.max_steps": _number("steps asked for; -1 where epochs count"),
        "training.epochs": _number("epochs asked for"),
        "training.seed": _count("seed of the random numbers"),
        "training.save_steps": _number("steps between two checkpoints; below 1 a share"),
        "training.save_total_limit": _count("checkpoints that are kept"),
        "training.save_only_model": _switch("no optimizer is saved: no full resume"),
        "training.logging_steps": _number("steps between two logged losses; below 1 a share"),
        "training.logging_nan_inf_filter": _switch("a loss of NaN is logged as another number"),
        "training.label_smoothing": _number("label smoothing"),
        "training.neftune_noise_alpha": _number("noise on embeddings"),
        "training.compile": _switch("the model was compiled"),
        "training.deepspeed": _switch("under DeepSpeed"),
        "training.fsdp": _switch("under FSDP"),
        "training.output_dir": _text("where a configuration wants its checkpoints"),
        "training.processes": _count("processes that trained together"),
        "training.device": _text("device of the first process (`cuda`, `cpu`, ...)"),
    }
)

SETTING_FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "optimizer.args.": "further arguments of the optimizer, under their own names",
        "scheduler.args.": "further arguments of the schedule, under their own names",
        "versions.": "version of a library that wrote the files, by its name",
        "device.": "what sentinel-train's manifest says of the device",
        "recipe.": "how sentinel-train was started",
        "resumed_from.": "from which checkpoint sentinel-train began",
    }
)
"""Beginnings of names whose rest is the trainer's own."""


def is_known(name: str) -> bool:
    """Tell whether a setting's name is on the list, or begins as one of its families does."""
    return name in SETTING_NAMES or any(map(name.startswith, SETTING_FAMILIES))
