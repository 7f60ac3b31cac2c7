"""What was written is taken by the real libraries, with the values that torch itself would make."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from repairs.files.real import adapted, tiny_llama, trained
from sentinel.flow import judge
from sentinel.formats.opening import open_checkpoint
from sentinel.repairs.files.copy import prepare_copy
from sentinel.repairs.files.keys import KeyRules
from sentinel.rules.load import load_rules

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.trainer

TORCH = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
RULE = "adapter-keys-load-nothing"
RULES = [rule for rule in load_rules() if rule.id == RULE]
WEIGHTS = "adapter_model.safetensors"


def assert_cast(before: dict, after: dict, precision: str) -> None:
    """The same names and shapes; every float is bit for bit `.to`."""
    assert before.keys() == after.keys()
    for name, value in before.items():
        expected = value.to(TORCH[precision]) if value.is_floating_point() else value
        assert after[name].dtype == expected.dtype
        assert torch.equal(after[name].view(torch.uint8), expected.view(torch.uint8)), name


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_peft_takes_a_cast_adapter(tmp_path, untouched, precision):
    """Values, description and metadata; the model computes as with the rounded adapter."""
    peft = pytest.importorskip("peft")
    adapted().to(torch.float64 if precision == "fp32" else torch.float32).save_pretrained(
        tmp_path / "a"
    )
    with untouched(tmp_path / "a"):
        receipt = prepare_copy(open_checkpoint(tmp_path / "a"), cast=precision)

    copy = tmp_path / "a-repaired"
    assert receipt.plan.target == copy
    before, after = load_file(tmp_path / "a" / WEIGHTS), load_file(copy / WEIGHTS)
    assert_cast(before, after, precision)
    with safe_open(copy / WEIGHTS, "pt") as file:
        assert file.metadata() == {"format": "pt"}
    loaded = peft.PeftModel.from_pretrained(tiny_llama(), copy)
    for name, value in peft.get_peft_model_state_dict(loaded).items():
        assert torch.equal(value, after[name].to(value.dtype))
    assert open_checkpoint(copy).faults == ()


def test_values_lie_as_the_reference_writer_puts_them(tmp_path):
    """Mixed dtypes: the bytes behind the header are those of safetensors' own writer."""
    tensors = {
        "base_model.model.q.lora_A.weight": torch.randn(3, 5, dtype=torch.float64),
        "base_model.model.q.lora_B.weight": torch.randn(5, 3, dtype=torch.float16),
        "base_model.model.k.shira_indices": torch.arange(6, dtype=torch.int32).reshape(2, 3),
        "base_model.model.k.mask": torch.ones(3, dtype=torch.bool),
        "base_model.model.a": torch.randn((), dtype=torch.bfloat16),
        "base_model.model.empty": torch.empty(0, 4),
    }
    path = tmp_path / "a" / WEIGHTS
    path.parent.mkdir()
    save_file(tensors, path, {"format": "pt", "\u00e9": 'quoted "text"\n'})
    (path.parent / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 3}')

    receipt = prepare_copy(open_checkpoint(path.parent), cast="bf16")

    expected = {
        name: one.to(torch.bfloat16) if one.is_floating_point() else one
        for name, one in tensors.items()
    }
    save_file(expected, tmp_path / "official.safetensors")
    assert data_of(receipt.plan.target / WEIGHTS) == data_of(tmp_path / "official.safetensors")
    with safe_open(receipt.plan.target / WEIGHTS, "pt") as file:
        assert file.metadata() == {"format": "pt", "\u00e9": 'quoted "text"\n'}


def data_of(path: Path) -> bytes:
    raw = path.read_bytes()
    return raw[8 + int.from_bytes(raw[:8], "little") :]


@pytest.mark.parametrize("optimizer", ["keep", "cast", "drop"])
def test_the_trainer_resumes_from_a_copy(tmp_path, run, untouched, optimizer):
    """Transformers' Trainer goes on at step 3: with the moments as they were, with cast ones, or
    with new ones.
    """
    original = run / "checkpoint-3"
    with untouched(run):
        receipt = prepare_copy(
            open_checkpoint(original),
            tmp_path / "new" / "checkpoint-3",
            cast="bf16",
            optimizer=optimizer,
        )
    copy = receipt.plan.target
    assert_cast(load_file(original / WEIGHTS), load_file(copy / WEIGHTS), "bf16")
    state = torch.load(original / "optimizer.pt", weights_only=True)["state"]
    if optimizer == "drop":
        assert not {"optimizer.pt", "scheduler.pt"} & {path.name for path in copy.iterdir()}
    else:
        found = torch.load(copy / "optimizer.pt", weights_only=True)["state"]
        for at, kept in state.items():
            as_cast = "bf16" if optimizer == "cast" else "fp32"
            moments = [{k: v for k, v in one[at].items() if k != "step"} for one in (state, found)]
            assert_cast(*moments, as_cast)
            assert found[at]["step"] == kept["step"]

    trainer = trained(tmp_path / "on", steps=5, resume=copy)

    assert trainer.state.global_step == 5
    steps = {int(one["step"]) for one in trainer.optimizer.state_dict()["state"].values()}
    assert steps == {2 if optimizer == "drop" else 5}
    logged = [entry["step"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged == [1, 2, 3, 4, 5]


def test_a_sharded_model_loads_in_its_new_precision(tmp_path, untouched):
    """`from_pretrained` with the dtype of the description; the index names each tensor and the
    new total.
    """
    transformers = pytest.importorskip("transformers")
    tiny_llama().save_pretrained(tmp_path / "m", max_shard_size="20KB")
    assert len(list((tmp_path / "m").glob("model-*.safetensors"))) > 2
    with untouched(tmp_path / "m"):
        receipt = prepare_copy(open_checkpoint(tmp_path / "m"), cast="bf16")

    copy = receipt.plan.target
    loaded = transformers.LlamaForCausalLM.from_pretrained(copy, dtype="auto")
    assert loaded.dtype == torch.bfloat16
    assert_cast(tiny_llama().state_dict(), loaded.state_dict(), "bf16")
    index = json.loads((copy / "model.safetensors.index.json").read_text())
    sizes = [t.numel() * 2 for name in copy.glob("*.safetensors") for t in load_file(name).values()]
    assert index["metadata"]["total_size"] == sum(sizes)
    assert open_checkpoint(copy).faults == ()


def test_a_pickled_adapter_is_cast_too(tmp_path, untouched):
    """`adapter_model.bin`, which PEFT wrote and torch reads again."""
    peft = pytest.importorskip("peft")
    adapted().save_pretrained(tmp_path / "a", safe_serialization=False)
    with untouched(tmp_path / "a"):
        receipt = prepare_copy(open_checkpoint(tmp_path / "a"), cast="fp16")

    before = torch.load(tmp_path / "a" / "adapter_model.bin", weights_only=True)
    after = torch.load(receipt.plan.target / "adapter_model.bin", weights_only=True)
    assert_cast(before, after, "fp16")
    peft.PeftModel.from_pretrained(tiny_llama(), receipt.plan.target)


@pytest.mark.parametrize(
    "broken",
    [
        lambda key: key.removeprefix("base_model.model."),
        lambda key: f"module.{key}",
        lambda key: f"_orig_mod.{key.replace('lm_head.', 'lm_head.modules_to_save.default.')}",
        lambda key: key.replace(".self_attn.", "._fsdp_wrapped_module.self_attn."),
        lambda key: key.replace(".lora_", ".base_layer.lora_"),
        lambda key: key.replace("lora_A", "lora_down").replace("lora_B", "lora_up"),
        lambda key: key.replace("lora_A.", "lora_A.default.").replace("lora_B.", "lora_B.default."),
    ],
)
def test_peft_finds_every_key_again(tmp_path, untouched, broken):
    """An adapter whose keys PEFT would pass over loads whole after `auto`, magnitudes and a head
    too; the rule that speaks of such keys is quiet then.
    """
    peft = pytest.importorskip("peft")
    adapted(use_dora=True, modules_to_save=["lm_head"]).save_pretrained(tmp_path / "a")
    good = load_file(tmp_path / "a" / WEIGHTS)
    save_file({broken(key): value for key, value in good.items()}, tmp_path / "a" / WEIGHTS)

    with untouched(tmp_path / "a"):
        receipt = prepare_copy(open_checkpoint(tmp_path / "a"), rename=KeyRules(auto=True))

    asks = {path: RULE in rules_that_fire(path) for path in (tmp_path / "a", receipt.plan.target)}
    named = "default" in broken("lora_A.weight")
    assert asks == {tmp_path / "a": not named, receipt.plan.target: False}
    assert load_file(receipt.plan.target / WEIGHTS).keys() == good.keys()
    loaded = peft.PeftModel.from_pretrained(tiny_llama(), receipt.plan.target)
    for key, value in peft.get_peft_model_state_dict(loaded).items():
        assert torch.equal(value, good[key])


def rules_that_fire(path: Path) -> set[str]:
    return {finding.rule for finding in judge(path, rules=RULES).verdict.findings}


def test_trainers_adapters_in_a_copy_are_the_same(tmp_path, run):
    """The whole directory is there: nothing but what was asked for has changed."""
    receipt = prepare_copy(
        open_checkpoint(run / "checkpoint-6"), tmp_path / "x" / "checkpoint-6", optimizer="drop"
    )

    copied = {file.path for file in receipt.plan.files if file.how == "copied"}
    assert copied == {path.name for path in (run / "checkpoint-6").iterdir()} - {
        "optimizer.pt",
        "scheduler.pt",
    }
    for name in copied:
        assert (receipt.plan.target / name).read_bytes() == (
            run / "checkpoint-6" / name
        ).read_bytes()
    shutil.rmtree(tmp_path / "x")


@pytest.mark.parametrize("optimizer", ["keep", "cast"])
def test_accelerate_loads_a_state_again(tmp_path, untouched, optimizer):
    """`load_state` finds model, optimizer, schedule and random states; the values are rounded."""
    accelerate = pytest.importorskip("accelerate")

    def prepared(seed: int) -> tuple:
        torch.manual_seed(seed)
        model = torch.nn.Linear(6, 4)
        adam = torch.optim.AdamW(model.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.LinearLR(adam)
        accelerator = accelerate.Accelerator(cpu=True)
        return accelerator, *accelerator.prepare(model, adam, schedule)

    accelerator, model, adam, schedule = prepared(0)
    for _ in range(3):
        model(torch.randn(2, 6)).sum().backward()
        adam.step()
        schedule.step()
        adam.zero_grad()
    accelerator.save_state(tmp_path / "out" / "state")
    with untouched(tmp_path / "out"):
        receipt = prepare_copy(
            open_checkpoint(tmp_path / "out" / "state"), cast="bf16", optimizer=optimizer
        )
    assert receipt.plan.layout == "accelerate-state"

    again, other, its_adam, its_schedule = prepared(1)
    again.load_state(receipt.plan.target)

    for mine, saved in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, saved.to(torch.bfloat16).float())
    assert its_schedule.state_dict() == schedule.state_dict()
    for at, kept in adam.state_dict()["state"].items():
        found = its_adam.state_dict()["state"][at]
        assert found["step"] == kept["step"]
        for kind in ("exp_avg", "exp_avg_sq"):
            expected = kept[kind].to(torch.bfloat16).float() if optimizer == "cast" else kept[kind]
            assert torch.equal(found[kind], expected)


def test_diffusers_loads_a_cast_lora(tmp_path, untouched):
    """Its own writer's file, with what it says of the adapter in the metadata."""
    loaders = pytest.importorskip("diffusers.loaders")
    mixin = loaders.FluxLoraLoaderMixin
    layers = {
        f"single_transformer_blocks.0.attn.to_q.lora_{side}.weight": torch.randn(shape)
        for side, shape in (("A", (4, 8)), ("B", (8, 4)))
    }
    described = {"r": 4, "lora_alpha": 8, "target_modules": ["to_q"]}
    mixin.save_lora_weights(
        tmp_path / "out" / "lora",
        transformer_lora_layers=layers,
        transformer_lora_adapter_metadata=described,
    )
    with untouched(tmp_path / "out"):
        receipt = prepare_copy(open_checkpoint(tmp_path / "out" / "lora"), cast="bf16")
    assert receipt.plan.layout == "diffusers-lora"

    state, metadata = mixin.lora_state_dict(receipt.plan.target, return_lora_metadata=True)

    assert metadata == {f"transformer.{key}": value for key, value in described.items()}
    assert_cast({f"transformer.{key}": value for key, value in layers.items()}, state, "bf16")
