"""Rules about what the values are: diverged, copied, lost, collapsed, or not to be read."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from corpus.base_packing import PACKINGS, whole_model
from corpus.families import FAMILIES
from corpus.models import adapted, seed_torch, tiny_llama, train
from seen.trainings import begun, classifier, gone_on, lora, run
from threads.finding import healthy, said, scan, silent

if TYPE_CHECKING:
    import numpy as np

pytestmark = [pytest.mark.trainer, pytest.mark.filterwarnings("ignore")]
for name in ("peft", "transformers", "bitsandbytes"):
    pytest.importorskip(name)

ADAPTER = "adapter_model.safetensors"
PLAIN = {"optim": "sgd", "max_grad_norm": 0.0}


def test_fp16_overflow_risk(tmp_path: Path, rng: np.random.Generator) -> None:
    """A bf16 run far too fast: its weights pass what fp16 can hold before anything is NaN."""
    found = {}
    for rate in (1e5, 1e-3):
        torch = importlib.import_module("torch")
        model = lora(rng).to(torch.bfloat16)
        run(model, tmp_path / str(rate), learning_rate=rate, optim="adamw_torch")
        found[rate] = scan(tmp_path / str(rate))

    said(
        found[1e5][0].verdict,
        "fp16-overflow-risk",
        "suspect",
        "trained tensors hold values up to",
        "(BF16), and fp16 ends at 65504: ",
        "of them become Inf when they are cast; the run is diverging",
    )
    for one in found[1e-3]:
        healthy(one.verdict)


def test_rank_collapse(tmp_path: Path, rng: np.random.Generator) -> None:
    """SGD without clipping at ten thousand times its twin's rate: one step swallows the rest. Under
    a head of two classes one direction is all there is to learn, and that is what is said."""
    long = {"max_steps": 24, "save_steps": 24}
    classes = {"inputs": {"labels": [0, 1]}, **long}
    found = {}
    for name, rate in (("diverged", 100.0), ("usual", 1e-2)):
        model = lora(rng, r=8, target_modules=["q_proj", "v_proj", "o_proj"])
        run(model, tmp_path / name, learning_rate=rate, **long, **PLAIN)
        [found[name]] = scan(tmp_path / name)
    [two] = scan(run(classifier(rng), tmp_path / "classes", **classes))

    said(
        found["diverged"].verdict,
        "rank-collapse",
        "suspect",
        "modules of rank 8 change their weight along one direction only at step 24",
        "(stable rank 1 and up;",
        "a diverging step or a constant gradient has swallowed the rest",
    )
    healthy(found["usual"].verdict)
    silent(found["usual"].verdict, "rank-collapse")
    said(
        two.verdict,
        "rank-collapse",
        "healthy",
        "a head of two classes or one value asks for no more, so a lower rank does as well",
    )


def test_modules_to_save_drift(tmp_path: Path, rng: np.random.Generator) -> None:
    """A classifier goes on at a thousand times its rate: the head grows out of proportion. At
    rates of 1e-4 and 1e-2 it does not."""
    model = classifier(rng)
    begun(model, tmp_path / "fast", inputs={"labels": [0, 1]})
    gone_on(model, tmp_path / "fast", inputs={"labels": [0, 1]}, learning_rate=1.0)
    before, after = scan(tmp_path / "fast")

    healthy(before.verdict)
    said(
        after.verdict,
        "modules-to-save-drift",
        "suspect",
        "1 of 1 matrices in modules_to_save changed out of proportion",
        "'base_model.model.score.weight' to ",
        "the learning rate is too high for whole weights",
    )
    for rate in (1e-4, 1e-2):
        place = tmp_path / str(rate)
        options = {"inputs": {"labels": [0, 1]}, "learning_rate": rate}
        for one in scan(run(classifier(rng), place, **options)):
            healthy(one.verdict)


def test_tied_by_accident(tmp_path: Path, rng: np.random.Generator) -> None:
    """Two layers share one lora_up and it is saved twice. A base that shares its layers or its
    embeddings, layers that PEFT replicates, and pickled sparse tensors are no accident."""
    model = lora(rng, layers=3)
    first, second, _third = model.base_model.model.model.layers
    second.self_attn.q_proj.lora_B["default"].weight = first.self_attn.q_proj.lora_B[
        "default"
    ].weight
    twins = {
        "embeddings": tied(rng, targets=["q_proj", "embed_tokens", "lm_head"]),
        "layers": tied(rng, shared=True),
        "replicated": lora(rng, layer_replication=[[0, 2], [0, 2]]),
    }

    [found] = scan(saved(model, tmp_path / "tied"))
    said(
        found.verdict,
        "tied-by-accident",
        "suspect",
        "2 of 6 trained lora_up matrices (F32) are bit for bit those of another module",
        "one matrix under 2 names ('base_model.model.model.layers.0.self_attn.q_proj.lora_B.",
    )
    for name, twin in twins.items():
        [found] = scan(saved(twin, tmp_path / name))
        healthy(found.verdict)


def tied(rng: np.random.Generator, *, targets: object = None, shared: bool = False) -> Any:
    """An adapter over a base that ties its embeddings, or lets two layers share an attention."""
    seed_torch(rng)
    base = tiny_llama(layers=2, tie_word_embeddings=True)
    if shared:
        base.model.layers[1].self_attn = base.model.layers[0].self_attn
    options = {} if targets is None else {"target_modules": targets}
    return adapted(FAMILIES["lora"], base, **options)


def saved(model: Any, place: Path, **options: Any) -> Path:
    """Train a little and save with PEFT."""
    train(model, steps=3)
    model.save_pretrained(place, **options)
    return place


def test_partly_dead_lora_down(tmp_path: Path, rng: np.random.Generator) -> None:
    """A hole in a file of PEFT, as a lost block of a disk leaves it: one lora_down is all zero, and
    is named. Modules of another rank by rank_pattern are whole."""
    found = {}
    for name in ("hole", "whole"):
        path = saved(lora(rng, rank_pattern={"v_proj": 2}), tmp_path / name) / ADAPTER
        if name == "hole":
            zero(path, "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight")
        [found[name]] = scan(path.parent)

    finding = said(
        found["hole"].verdict,
        "partly-dead-lora-down",
        "suspect",
        "1 of 4 lora_down matrices are exactly 0",
        "'base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight'",
        "which a random initialisation never gives",
    )
    assert finding.tensor_count == 1
    healthy(found["whole"].verdict)


def zero(path: Path, key: str) -> None:
    """Overwrite one tensor's bytes in a safetensors file with zeros."""
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[:8], "little")
    begin, end = json.loads(content[8 : 8 + length])[key]["data_offsets"]
    content[8 + length + begin : 8 + length + end] = bytes(end - begin)
    path.write_bytes(content)


def test_unmeasured_values(tmp_path: Path, rng: np.random.Generator) -> None:
    """An adapter cut to half its rank and pickled as views, whose values lie scattered in the old
    storage: they are not read, and that is said. The same values copied are read."""
    torch, peft = importlib.import_module("torch"), importlib.import_module("peft")
    model = lora(rng, r=8)
    path = saved(model, tmp_path / "cut", safe_serialization=False)
    whole = peft.get_peft_model_state_dict(model)
    half = {key: value[:4] if "lora_A" in key else value[:, :4] for key, value in whole.items()}
    config = path / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"r": 4}))
    torch.save(half, path / "adapter_model.bin")
    [views] = scan(path)
    torch.save({key: value.clone() for key, value in half.items()}, path / "adapter_model.bin")
    [strided] = scan(path)
    copied = {key: value.contiguous() for key, value in half.items()}
    torch.save(copied, path / "adapter_model.bin")
    [dense] = scan(path)

    said(
        views.verdict,
        "unmeasured-values",
        "suspect",
        "the values of 4 of 8 tensors were not examined (F32: 2 like 'base_model.model.model.",
        "so damage in them would not be seen",
    )
    healthy(strided.verdict)
    silent(dense.verdict, "unmeasured-values")


def test_integer_codes_as_floats(tmp_path: Path) -> None:
    """An int8 state dict of bitsandbytes, loaded with strict=False and saved as a model: its codes
    are weights now. The model as it was, and the quantised one itself, are quiet."""
    torch = importlib.import_module("safetensors.torch")
    PACKINGS["int8"].pack(tmp_path / "int8")
    codes: dict[str, Any] = {}
    for file in (tmp_path / "int8").glob("*.safetensors"):
        codes |= torch.load_file(file)
    model = whole_model()
    model.save_pretrained(tmp_path / "before")
    model.load_state_dict(codes, strict=False)
    model.save_pretrained(tmp_path / "after")

    [found] = scan(tmp_path / "after")
    said(
        found.verdict,
        "integer-codes-as-floats",
        "faulty",
        "7 of 9 base matrices (F32) have exactly 127 as their largest magnitude",
        "a quantised state dict was loaded without its scales",
    )
    for name in ("before", "int8"):
        for one in scan(tmp_path / name):
            silent(one.verdict, "integer-codes-as-floats")


def test_stalled_updates(tmp_path: Path, rng: np.random.Generator) -> None:
    """Half of the modules stop in the middle of a run: in fp32 no rounding explains it, so they are
    frozen or get no gradient. Layers that never carried an adapter, one matrix of each pair that
    rests, and an encoder that ends earlier than the rest are meant."""
    halves = {"max_steps": 12, "save_steps": 12}
    found = {}
    for name, stops in (
        ("half", ("layers.0", "layers.1")),
        ("one of four", ("layers.0",)),
        ("one matrix", ("lora_A",)),
        ("not there", ()),
    ):
        options = {"layers_to_transform": [2, 3]} if name == "not there" else {}
        model = lora(rng, layers=4, **options)
        run(model, tmp_path / name, **halves)
        for key, value in model.named_parameters():
            if any(part in key for part in stops):
                value.requires_grad_(requires_grad=False)
        run(model, tmp_path / name, max_steps=24, save_steps=24)
        _, found[name] = scan(tmp_path / name)

    said(
        found.pop("half").verdict,
        "stalled-updates",
        "suspect",
        "4 of 8 adapter modules (F32) are bit-identical to the checkpoint before after 12 updates",
        "they are frozen, or get no gradient",
    )
    for one in found.values():
        healthy(one.verdict)
