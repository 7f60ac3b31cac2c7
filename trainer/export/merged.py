"""A whole model with the adapter merged into it, by PEFT's own `merge_and_unload`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from ..errors import RefusedError
from ..manifest import NAME as MANIFEST
from .adapter import read_config, read_tensors
from .metadata import title_of
from .precision import Precision, cast
from .writing import refuse_taken, replaced


def export_merged(
    checkpoint: Path,
    base: str | None,
    output: Path | None,
    dtype: Precision | None,
    *,
    force: bool,
) -> list[str]:
    """Write the model and return what is to be said of it; raises RefusedError before writing.

    Merging happens in the base's own precision, in fp32 when that is asked for; another is cast
    to afterwards. Memory: the base and one module's change.
    """
    place = output or Path(f"{title_of(checkpoint)}-merged")
    refuse_taken(place, force=force, directory=True)
    config = read_config(checkpoint)
    tensors = read_tensors(checkpoint)
    source = base or config.get("base_model_name_or_path")
    if not source:
        raise RefusedError(f"checkpoint '{checkpoint}'", "names no base", "say it with --base")
    model = _load_base(source, config, checkpoint, tensors, fp32=dtype == "fp32")
    if getattr(model.config, "quantization_config", None):
        fact = "is stored quantised, and merging would quantise the change too"
        raise RefusedError(f"base '{source}'", fact, "name the unquantised model with --base")
    try:
        merged: Any = PeftModel.from_pretrained(model, checkpoint).merge_and_unload(safe_merge=True)
    except (RuntimeError, ValueError) as error:
        fact = f"PEFT can't merge it into '{source}' ({' '.join(str(error).split())})"
        raise RefusedError(f"checkpoint '{checkpoint}'", fact) from error
    if dtype:
        _cast_model(merged, f"merged model of '{checkpoint}'", dtype)
    with replaced(place) as path:
        merged.save_pretrained(path)
        _save_tokenizer(checkpoint, source, path)
    lines = [f"wrote '{place}': {type(merged).__name__} from '{source}', {_dtype(merged)}"]
    quantised = (_json(checkpoint / MANIFEST).get("base") or {}).get("quantization", "none")
    if quantised != "none":
        lines.append(f"it was trained on a {quantised} base and merged into the unquantised one")
    return lines


def _load_base(
    source: str,
    config: Mapping[str, Any],
    checkpoint: Path,
    tensors: Mapping[str, torch.Tensor],
    *,
    fp32: bool,
) -> Any:
    """Return the base model as the class that the checkpoint names, on the CPU."""
    import transformers  # noqa: PLC0415 - slow

    options: dict[str, Any] = {"revision": config.get("revision")}
    mapping = config.get("auto_mapping") or {}
    library, name = mapping.get("parent_library") or "", mapping.get("base_model_class")
    if library.partition(".")[0] == "diffusers":
        import diffusers  # noqa: PLC0415 - only for its models

        kind = getattr(diffusers, str(name), None)
        options["torch_dtype"] = torch.float32 if fp32 else None
        if (Path(source) / "model_index.json").is_file():
            options["subfolder"] = "unet" if "UNet" in str(name) else "transformer"
    elif config.get("task_type") == "SEQ_CLS":
        kind = transformers.AutoModelForSequenceClassification
        options |= {"dtype": torch.float32 if fp32 else "auto"}
        options["num_labels"] = _labels(checkpoint, tensors)
    else:
        kind = transformers.AutoModelForCausalLM
        if config.get("task_type") is None and name:
            kind = getattr(transformers, str(name), None)
        options["dtype"] = torch.float32 if fp32 else "auto"
    if kind is None:
        fact = f"its base is a {name} of {library}, which is not there"
        raise RefusedError(f"checkpoint '{checkpoint}'", fact, f"install {library}")
    try:
        return kind.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        fact = f"can't be loaded ({' '.join(str(error).split())})"
        raise RefusedError(f"base '{source}'", fact, "say where it is with --base") from error


def _labels(checkpoint: Path, tensors: Mapping[str, torch.Tensor]) -> int:
    """Return the number of labels: the height of the head that the checkpoint carries."""
    for key, value in tensors.items():
        if key.endswith(("score.weight", "classifier.weight", "classifier.out_proj.weight")):
            return int(value.shape[0])
    raise RefusedError(f"checkpoint '{checkpoint}'", "carries no head of a classifier")


def _cast_model(model: Any, what: str, dtype: Precision) -> None:
    """Cast every floating-point weight; a tied one once."""
    weights = {name: value.data for name, value in model.named_parameters()}
    for name, value in cast(what, weights, dtype).items():
        model.get_parameter(name).data = value


def _save_tokenizer(checkpoint: Path, source: str, path: Path) -> None:
    """Put the tokenizer beside a language model, where there is one."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - slow

    for place in (checkpoint, source):
        if isinstance(place, Path) and not (place / "tokenizer_config.json").is_file():
            continue
        try:
            AutoTokenizer.from_pretrained(place).save_pretrained(path)
        except (OSError, ValueError):
            continue
        return


def _dtype(model: Any) -> str:
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
