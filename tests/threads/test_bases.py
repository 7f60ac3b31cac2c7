"""Threads about the model under the adapter: quantised, in another dtype, or another model."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from corpus.base_packing import PACKINGS, whole_model
from corpus.families import FAMILIES
from corpus.models import adapted, seed_torch, tiny_llama, train
from threads import simpletuner
from threads.finding import checked, healthy, said, scan, silent

if TYPE_CHECKING:
    import numpy as np

pytestmark = [pytest.mark.trainer, pytest.mark.filterwarnings("ignore")]
for name in ("peft", "diffusers"):
    pytest.importorskip(name)

A100 = {"device.type": "cuda", "device.name": "NVIDIA A100", "device.bf16": True}
FIXED, BROKEN = ({**A100, "versions.optimum-quanto": version} for version in ("0.2.7", "0.2.4"))


def flux(root: Path, **changed: object) -> Path:
    """A configuration of SimpleTuner that resumes a LoRA over a base packed by optimum-quanto."""
    settings = {
        "model_family": "flux",
        "model_type": "lora",
        "mixed_precision": "bf16",
        "base_model_precision": "int8-quanto",
        "resume_from_checkpoint": "latest",
        "optimizer": "adamw_bf16",
        **changed,
    }
    path = root / "config.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


def test_bghira_simpletuner_659(tmp_path: Path) -> None:
    """The resume of a LoRA fails as soon as the base is quantised. Told before it is started, with
    the version that ends it and the way around it; a start from the weights alone is quiet."""
    found = checked(flux(tmp_path), BROKEN)
    updated = checked(flux(tmp_path), FIXED)
    around = flux(tmp_path, resume_from_checkpoint="", init_lora="elsewhere/lora.safetensors")

    said(
        found.verdict,
        "quanto-resume",
        "suspect",
        "before 0.2.5 it stops the resume with KeyError '...weight._data'",
        "although the checkpoint is healthy",
        "begin from the weights alone with --init_lora in an empty output directory",
    )
    healthy(updated.verdict)
    silent(checked(around, BROKEN).verdict, "quanto-resume")


def test_bghira_simpletuner_781(tmp_path: Path) -> None:
    """Resuming Flux ends in KeyError: a key that ends in `weight._data`, which only the packed
    base has. The adapter's file is looked at and found whole: it is not what has to be mended."""
    pytest.importorskip("optimum.quanto")
    path = simpletuner.checkpoint(tmp_path)
    base = tmp_path / "base"
    PACKINGS["quanto-int8"].pack(base)
    read = importlib.import_module("safetensors").safe_open
    with read(base / "model.safetensors", "np") as packed:
        assert any(key.endswith("weight._data") for key in packed.keys())  # noqa: SIM118
    [alone], [over] = scan(path), scan(path, base=base)

    healthy(alone.verdict)
    said(
        over.verdict,
        "quanto-resume",
        "suspect",
        "this adapter is on a base packed by optimum-quanto",
        "although the checkpoint is healthy",
    )
    assert "weights" in over.verdict.usable


def test_bghira_simpletuner_1758(tmp_path: Path) -> None:
    """HiDream's resume over int8-quanto fails. Told before the start; without quantisation, and
    in a first start, there is nothing to tell."""
    hidream = {"model_family": "hidream", "resume_from_checkpoint": "checkpoint-500"}
    found = checked(flux(tmp_path, **hidream), BROKEN)
    plain = checked(flux(tmp_path, **hidream, base_model_precision="no_change"), BROKEN)
    first = checked(flux(tmp_path, **{**hidream, "resume_from_checkpoint": ""}), BROKEN)

    said(found.verdict, "quanto-resume", "suspect", "KeyError '...weight._data'")
    silent(plain.verdict, "quanto-resume")
    silent(first.verdict, "quanto-resume")


def test_unslothai_unsloth_4891(tmp_path: Path, rng: np.random.Generator) -> None:
    """Half and BFloat16 in one multiplication over a 4-bit base: the adapter is in one, the base
    computes in the other. Both are named, and how to make them one."""
    pytest.importorskip("bitsandbytes")
    base = tmp_path / "base"
    PACKINGS["fp4-nested"].pack(base)
    found = {}
    for dtype in ("float16", "bfloat16", "float32"):
        model = over(whole_model(), rng).to(getattr(importlib.import_module("torch"), dtype))
        model.save_pretrained(tmp_path / dtype)
        [found[dtype]] = scan(tmp_path / dtype, base=base)

    finding = said(
        found["float16"].verdict,
        "dtype-mismatch-base",
        "suspect",
        "4 of 4 half-precision adapter tensors are F16, but the fp4 base computes in BF16",
        "set the base's compute dtype to that of the adapter, or train the adapter in fp32",
    )
    assert finding.tensor_count == 4
    for dtype in ("bfloat16", "float32"):
        silent(found[dtype].verdict, "dtype-mismatch-base")


def over(base: Any, rng: np.random.Generator) -> Any:
    """A trained adapter over a base."""
    seed_torch(rng)
    model = adapted(FAMILIES["lora"], base)
    train(model)
    return model


def llava(path: Path, rng: np.random.Generator) -> Path:
    """A base that sees: the language model lies one level deeper than alone."""
    seed_torch(rng)
    transformers = importlib.import_module("transformers")
    vision = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    config = transformers.LlavaConfig(vision_config=vision, text_config=tiny_llama().config)
    transformers.LlavaForConditionalGeneration(config).save_pretrained(path)
    return path


def test_vllm_project_vllm_34186(tmp_path: Path, rng: np.random.Generator) -> None:
    """An adapter trained on the language model alone is served over the model that sees: no key
    matches, and the answers are the base's. A remark, since a resume by the class it was trained
    with goes well; the level that its names lack is shown."""
    transformers = importlib.import_module("transformers")
    base = llava(tmp_path / "llava", rng)
    over(tiny_llama(), rng).save_pretrained(tmp_path / "text")
    whole = transformers.LlavaForConditionalGeneration.from_pretrained(base)
    targets = ".*language_model.*[qv]_proj"
    adapted(FAMILIES["lora"], whole, target_modules=targets).save_pretrained(tmp_path / "whole")
    [text], [own] = (scan(tmp_path / name, base=base) for name in ("text", "whole"))

    said(
        text.verdict,
        "text-adapter-on-wrapper",
        text.verdict.level,
        "2 of 2 adapter modules are named as in the language model alone",
        "('model.layers.0.self_attn.q_proj'), and the base has it one level down",
        "('language_model.model.layers.0.self_attn.q_proj')",
        "they would be loaded nowhere and change nothing",
    )
    for one in (text, own):
        silent(one.verdict, "adapter-keys-mismatch-base", "adapter-keys-load-nothing")
    silent(own.verdict, "text-adapter-on-wrapper")


def test_ace_step_ace_step_1_5_615(tmp_path: Path, rng: np.random.Generator) -> None:
    """The adapter's keys match nothing, no error is raised, and what is generated is the base's.
    Here they carry the name of a wrapper, the usual reason; it is named from the file alone."""
    torch = importlib.import_module("safetensors.torch")
    over(tiny_llama(), rng).save_pretrained(tmp_path / "whole")
    over(tiny_llama(), rng).save_pretrained(tmp_path / "wrapped")
    file = tmp_path / "wrapped" / "adapter_model.safetensors"
    tensors = torch.load_file(file)
    prefix = "base_model.model."
    wrapped = {key.replace(prefix, f"{prefix}_orig_mod.", 1): one for key, one in tensors.items()}
    torch.save_file(wrapped, file, {"format": "pt"})
    [whole], [found] = scan(tmp_path / "whole"), scan(tmp_path / "wrapped")

    said(
        found.verdict,
        "adapter-keys-load-nothing",
        "suspect",
        "4 of 4 adapter tensors would be loaded nowhere",
        "the wrapper '_orig_mod' is in it",
        "rename the keys before loading",
    )
    silent(whole.verdict, "adapter-keys-load-nothing")
