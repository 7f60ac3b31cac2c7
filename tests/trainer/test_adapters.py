# ruff: noqa: PLC0415 - torch is loaded only where it is needed
"""Every adapter, initialisation, base and optimizer trains, is saved, and resumes exactly."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.trainer

OPTIMIZERS = {
    "adamw": {},
    "adamw-fused": {},
    "adamw-8bit": {"min_8bit_size": 16},
    "paged-adamw": {},
    "paged-adamw-8bit": {"min_8bit_size": 16},
    "lion": {},
    "lion-8bit": {"min_8bit_size": 16},
    "adafactor": {},
    "prodigy": {},
    "prodigy-plus": {},
    "sgd": {"momentum": 0.9},
    "schedule-free": {},
    "schedule-free-sgd": {},
}
METHODS = ("lora", "rslora", "dora", "loha", "lokr", "oft", "ia3")
INITS = ("random", "gaussian", "orthogonal", "pissa", "pissa_niter_4", "olora", "eva")
SWITCHES = (
    {"training__gradient_checkpointing": "true"},
    {
        "training__gradient_checkpointing": "true",
        "training__gradient_checkpointing_reentrant": "true",
    },
    {"training__mixed_precision": "bf16"},
    {"training__mixed_precision": "fp16"},
    {"training__mixed_precision": "fp16", "training__grad_scaler": "false"},
    {
        "training__mixed_precision": "fp16",
        "training__grad_scaler": "false",
        "adapter__dtype": "fp16",
    },
    {"training__gradient_accumulation": 2, "training__max_grad_norm": 0.01},
    {"base__attention": "eager"},
)
SCHEDULES = {
    "constant-with-warmup": {},
    "cosine": {},
    "cosine-with-restarts": {"num_cycles": 2},
    "cosine-with-min-lr": {"min_lr": 1e-5},
    "polynomial": {"power": 2.0},
    "inverse-sqrt": {},
    "warmup-stable-decay": {"num_decay_steps": 2},
}


def weights_of(checkpoint):
    from safetensors.torch import load_file

    return load_file(checkpoint / "adapter_model.safetensors")


@pytest.fixture
def exact(train, tmp_path):
    """Train four steps, go on from the second elsewhere, and hold that nothing differs."""

    def call(**settings):
        settings = {"training__steps": 4, "training__scheduler": "constant", **settings}
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        assert train(whole, **settings) == 0
        assert train(parts, "--resume", whole / "checkpoint-2", **settings) == 0
        lines = [
            [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
            for place in (whole, parts)
        ]
        told = [[(line["step"], line["loss"], line["grad_norm"]) for line in run] for run in lines]
        assert told[0][2:] == told[1]
        ends = [weights_of(place / "checkpoint-4") for place in (whole, parts)]
        assert ends[0].keys() == ends[1].keys()
        assert all(ends[0][key].equal(ends[1][key]) for key in ends[0])
        middle = weights_of(whole / "checkpoint-2")
        assert any(not middle[key].equal(ends[0][key]) for key in middle)
        return whole / "checkpoint-4"

    return call


@pytest.mark.parametrize("name", ["adafactor", "schedule-free", "lion-8bit"])
def test_a_half_precision_adapter_resumes_exactly(exact, name):
    """Also where the optimizer keeps fp32 values, which torch would cast when it loads them."""
    args = json.dumps(OPTIMIZERS[name])
    settings = {"training__optimizer": f"{{name: {name}, args: {args}}}"}
    exact(**settings, training__learning_rate="null", adapter__dtype="bf16")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_resumes_exactly(exact, name, dtype):
    args = json.dumps(OPTIMIZERS[name])
    settings = {"training__optimizer": f"{{name: {name}, args: {args}}}"}
    exact(**settings, training__learning_rate="null", adapter__dtype=dtype)


@pytest.mark.parametrize("method", ["lokr", "oft"])
def test_an_adapter_of_another_kind_resumes_exactly(exact, method):
    checkpoint = exact(**of_method(method))
    config = json.loads((checkpoint / "adapter_config.json").read_text())
    assert config["peft_type"] == method.upper()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("base", ["none", "int8", "nf4", "fp4"])
@pytest.mark.parametrize("method", METHODS)
def test_every_adapter_resumes_exactly_on_every_base(  # noqa: PLR0917 - a case of three
    train, exact, tmp_path, method, base, dtype
):
    """But for what is refused in a sentence because its library can't do it."""
    import torch

    settings = {**of_method(method), "base__quantization": base, "adapter__dtype": dtype}
    settings["training__learning_rate"] = 1e-2
    if (method in {"loha", "lokr"} and base in {"nf4", "fp4"}) or (
        (method, base)
        == (
            "dora",
            "int8",
        )
        and not torch.cuda.is_available()
    ):
        assert train(tmp_path / "out", **settings) == 2
        return
    checkpoint = exact(**settings)
    wanted = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    assert {tensor.dtype for tensor in weights_of(checkpoint).values()} == {wanted}


def of_method(method):
    """The settings that a method has: ranks and alphas of the recipe only where they count."""
    settings = {"adapter__method": method}
    if method not in {"lora", "rslora", "dora"}:
        settings["adapter__dropout"] = 0
    if method in {"oft", "ia3"}:
        settings |= {"adapter__rank": 8, "adapter__alpha": 16}
    return settings


@pytest.mark.parametrize("init", ["pissa", "eva"])
def test_an_initialisation_is_repeated_or_left_out_by_a_resume(exact, init):
    """PiSSA takes its part out of the base, which a resume has to do again; EVA has done."""
    exact(adapter__init=init)


@pytest.mark.slow
@pytest.mark.parametrize("init", INITS)
def test_every_initialisation_resumes_exactly(exact, init):
    checkpoint = exact(adapter__init=init)
    config = json.loads((checkpoint / "adapter_config.json").read_text())
    assert config["init_lora_weights"] == (False if init == "random" else init)


def test_an_initialisation_that_changes_the_base_is_kept_by_a_resume(train, tmp_path, capsys):
    """Without it the loaded weights would stand on another base."""
    assert train(tmp_path, adapter__init="pissa", training__steps=2) == 0
    options = ("--resume", tmp_path / "checkpoint-2")
    assert train(tmp_path, *options, adapter__init="default") == 2
    assert "adapter.init is 'pissa' there and 'default'" in capsys.readouterr().err
    options = ("--init-lora", tmp_path / "checkpoint-2")
    assert train(tmp_path / "new", *options, adapter__init="olora") == 2
    assert "adapter.init is 'pissa' there and 'olora'" in capsys.readouterr().err


def test_peft_opens_an_adapter_whose_initialisation_changed_the_base(train, base_model, tmp_path):
    """What PEFT builds from the file gives the logits of the model that was trained."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    assert train(tmp_path, adapter__init="pissa", training__steps=2) == 0
    base = AutoModelForCausalLM.from_pretrained(base_model)
    tokens = torch.arange(3, 40)[None]
    with torch.no_grad():
        plain = base(tokens).logits
        model = PeftModel.from_pretrained(base, tmp_path / "checkpoint-2")
        ours = model(tokens).logits
    assert 0 < (ours - plain).abs().max() < 0.1


@pytest.mark.parametrize("switches", [SWITCHES[1], SWITCHES[3]], ids="-".join)
def test_a_switch_is_taken_and_resumes_exactly(exact, switches):
    exact(**switches)


@pytest.mark.slow
@pytest.mark.parametrize("switches", SWITCHES, ids=lambda it: "-".join(map(str, it.values())))
def test_every_switch_is_taken_and_resumes_exactly(exact, switches):
    exact(**switches)


@pytest.mark.slow
def test_a_compiled_training_resumes_exactly(exact):
    exact(training__compile="true")


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_resumes_exactly(exact, name):
    warmup = 0 if name.startswith("cosine-with-r") else 1
    exact(
        training__scheduler=name,
        training__scheduler_args=json.dumps(SCHEDULES[name]),
        training__warmup_steps=warmup,
    )


def test_a_gradient_scaler_is_saved_with_its_scale(train, tmp_path):
    """And its overflows are no updates: the first scales of 2^16 are too high for fp16 here."""
    import torch

    scaled = {"training__mixed_precision": "fp16", "training__steps": 2}
    assert train(tmp_path / "with", **scaled) == 0
    state = torch.load(tmp_path / "with" / "checkpoint-2" / "scaler.pt", weights_only=True)
    assert state["scale"] > 0
    assert train(tmp_path / "without", **scaled, training__grad_scaler="false") == 0
    assert not (tmp_path / "without" / "checkpoint-2" / "scaler.pt").exists()


def test_peft_switch_leaves_whole_modules_in_half_precision(train, tmp_path):
    """`autocast_adapter_dtype` raises the adapter to fp32 and visits no modules_to_save."""
    import torch

    settings = {
        "adapter__dtype": "fp16",
        "adapter__autocast_adapter_dtype": "true",
        "adapter__modules_to_save": "[lm_head]",
    }
    assert train(tmp_path, **settings, training__steps=1, training__save_every=1) == 0
    dtypes = {key: value.dtype for key, value in weights_of(tmp_path / "checkpoint-1").items()}
    head = dtypes.pop("base_model.model.lm_head.weight")
    assert (head, set(dtypes.values())) == (torch.float16, {torch.float32})


def test_a_schedule_free_optimizer_saves_the_weights_it_found(train, tmp_path):
    """Not those it tries out: what is saved is in evaluation mode, and says so."""
    import torch

    settings = {"training__optimizer": "{name: schedule-free}", "training__scheduler": "constant"}
    assert train(tmp_path, **settings, training__steps=2) == 0
    state = torch.load(tmp_path / "checkpoint-2" / "optimizer.pt", weights_only=True)
    assert state["param_groups"][0]["train_mode"] is False


def test_an_evaluation_leaves_the_training_as_it_was(train, tmp_path, losses):
    """On CPUs with AVX512-BF16 bitsandbytes would cut the gradients off at the first one."""
    (tmp_path / "held_out.txt").write_text("a held-out text of two or three blocks\n" * 2)
    # Without dropout: an evaluation's loader draws a number, which changes its masks.
    base = {"base__quantization": "nf4", "training__steps": 4, "adapter__dropout": 0}
    assert train(tmp_path / "without", **base) == 0
    told = {"data__eval_files": f"[{tmp_path / 'held_out.txt'}]", "training__eval_every": 1}
    assert train(tmp_path / "with", **base, **told) == 0
    lines = (tmp_path / "with" / "metrics.jsonl").read_text().splitlines()
    seen = {line["step"]: line["loss"] for line in map(json.loads, lines) if "loss" in line}
    assert seen == losses(tmp_path / "without")
