"""The base model and the adapter on it, in exactly the precisions the recipe names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import cast_adapter_dtype
from peft.utils import ModulesToSaveWrapper
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
)

from .errors import RefusedError
from .peft_config import peft_config
from .recipe import Recipe
from .sections.section import Precision

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def load_tokenizer(recipe: Recipe) -> Any:
    """Return the base model's tokenizer, with a padding token in any case."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(recipe.base.model, revision=recipe.base.revision)
    except (OSError, ValueError) as error:
        raise _unloadable(recipe, "its tokenizer", error) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(recipe: Recipe, device: str, pad_token_id: int | None) -> Any:
    """Return the frozen base model on ``device``, quantised when the recipe says so."""
    base = recipe.base
    dtype = DTYPES[base.compute_dtype]
    options: dict[str, Any] = {"dtype": dtype, "revision": base.revision}
    if base.attention != "auto":
        options["attn_implementation"] = base.attention.replace("-", "_")
    if base.quantization != "none":
        options["device_map"] = {"": torch.cuda.current_device() if device == "cuda" else device}
        options["quantization_config"] = _packing(recipe)
    kind: Any = AutoModelForCausalLM
    if recipe.task == "sequence-classification":
        kind = AutoModelForSequenceClassification
        options |= {"num_labels": recipe.num_labels, "pad_token_id": pad_token_id}
    try:
        model = kind.from_pretrained(base.model, **options)
    except (OSError, ValueError) as error:
        raise _unloadable(recipe, "the model", error) from error
    # A cache of keys is for generation; with one, records side by side would see each other.
    model.config.use_cache = False
    for module in model.modules():
        # On CPUs with AVX512-BF16, bitsandbytes packs a 4-bit layer anew at its first pass
        # without gradients (an evaluation), and from then on no gradient comes through it.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    if recipe.training.gradient_checkpointing:
        model.enable_input_require_grads()
    return model.to(device) if base.quantization == "none" else model


def _packing(recipe: Recipe) -> BitsAndBytesConfig:
    """Return how bitsandbytes packs the base."""
    base = recipe.base
    # A module that is trained as a whole must stay a float tensor.
    whole = ["lm_head", *_whole_modules(recipe)]
    if base.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=whole)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=base.quantization,
        bnb_4bit_use_double_quant=base.double_quant,
        bnb_4bit_compute_dtype=DTYPES[base.compute_dtype],
        llm_int8_skip_modules=whole,
    )


def add_adapter(base_model: Any, recipe: Recipe, *, fresh: bool = True) -> Any:
    """Return the base with an adapter whose trainable weights have the recipe's dtype.

    PEFT raises half-precision adapters to fp32 by default, except for modules_to_save, which
    keep the base's dtype; here both get the dtype asked for, unless the recipe sets PEFT's
    switch. Modules trained as a whole do not cast their inputs as LoRA layers do, so they get
    hooks that carry them across the border.

    Without ``fresh`` the weights are about to be loaded: only an initialisation that changes
    the base is carried out, since the base has to be the same again.
    """
    adapter = recipe.adapter
    config = peft_config(recipe, plain=not fresh and not adapter.changes_base)
    try:
        model = get_peft_model(base_model, config, autocast_adapter_dtype=False)
    except ValueError as error:
        raise RefusedError("adapter", str(error).splitlines()[0]) from error
    dtype = DTYPES[adapter.dtype]
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            for whole in module.modules_to_save.values():
                _bridge(whole, dtype)
    cast_adapter_dtype(
        model.base_model, "default", autocast_adapter_dtype=adapter.autocast_adapter_dtype
    )
    return model


def load_adapter_weights(model: Any, directory: Path) -> None:
    """Copy a checkpoint's adapter into ``model``, each value cast to the dtype already there.

    Raises RefusedError when a tensor is missing, unknown, or of another shape: half an adapter
    would train on without a word.
    """
    file = directory / "adapter_model.safetensors"
    what = f"checkpoint '{directory}'"
    try:
        tensors = load_file(file)
        result: Any = set_peft_model_state_dict(model, tensors)
    except (OSError, SafetensorError) as error:
        raise RefusedError(what, f"{file.name} can't be read ({error})") from error
    except KeyError as error:
        raise RefusedError(what, f"{file.name} lacks {error}") from error
    except RuntimeError as error:
        fact = " ".join(str(error).split())
        raise RefusedError(what, f"does not fit the recipe's adapter ({fact})") from error
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    missing = sorted(trained & set(result.missing_keys))
    stray = sorted(result.unexpected_keys)
    if missing or stray:
        fact = f"{len(missing)} tensors missing, {len(stray)} unknown ({(missing + stray)[0]}, ...)"
        raise RefusedError(what, fact, "use the adapter's own base, targets and method")


def _whole_modules(recipe: Recipe) -> list[str]:
    """Return the modules trained as a whole; PEFT adds the head of a classifier by itself."""
    heads = ("score", "classifier") if recipe.task == "sequence-classification" else ()
    return [*recipe.adapter.modules_to_save, *heads]


def _bridge(module: Any, dtype: torch.dtype) -> None:
    """Cast what enters a module to its weights' dtype, and its result back."""
    arrived: list[torch.dtype] = []

    def enter(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        arrived[:] = [value.dtype for value in inputs if _is_float(value)]
        return tuple(value.to(dtype) if _is_float(value) else value for value in inputs)

    def leave(_: Any, __: Any, result: Any) -> Any:
        return result.to(arrived[0]) if arrived and _is_float(result) else result

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave)


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _unloadable(recipe: Recipe, part: str, error: Exception) -> RefusedError:
    fact = f"{part} can't be loaded ({' '.join(str(error).split())})"
    return RefusedError(f"base.model '{recipe.base.model}'", fact)
