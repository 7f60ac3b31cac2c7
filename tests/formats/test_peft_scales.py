"""Rank, alpha, scale and norm of each module against the layers that PEFT itself builds."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentinel.formats.opening import discover, open_checkpoint
from sentinel.stats.measure import measure

pytestmark = pytest.mark.trainer

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}
ATTENTION = ["q_proj", "v_proj"]


def llama() -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL))


def mixtral() -> Any:
    return transformers.MixtralForCausalLM(transformers.MixtralConfig(**SMALL, num_local_experts=4))


def gpt2() -> Any:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=64,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=32,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def convolutions() -> Any:
    return torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3), torch.nn.Conv1d(8, 8, 3), torch.nn.Linear(8, 8)
    )


def lora(**options: Any) -> Any:
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ATTENTION, **options})


ZOO: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "plain": (llama, lora),
    "an odd alpha": (llama, lambda: lora(lora_alpha=3)),
    "rank-stabilised": (llama, lambda: lora(use_rslora=True)),
    "names as patterns": (
        llama,
        lambda: lora(
            rank_pattern={"q_proj": 2, "layers.1.self_attn.v_proj": 8},
            alpha_pattern={"layers.2.self_attn.q_proj": 5},
        ),
    ),
    "expressions as patterns": (
        llama,
        lambda: lora(
            use_rslora=True,
            rank_pattern={r".*\.1\..*q_proj": 2, r"layers\.[02]\.self_attn\.v_proj": 16},
            alpha_pattern={r"^model\.layers\.0\.self_attn\.q_proj": 32, "v_proj": 3},
        ),
    ),
    "dora": (llama, lambda: lora(use_dora=True, alpha_pattern={"q_proj": 5})),
    "pissa": (llama, lambda: lora(init_lora_weights="pissa")),
    "an embedding": (
        llama,
        lambda: lora(target_modules=["embed_tokens", "lm_head"], rank_pattern={"lm_head": 2}),
    ),
    "repeated layers": (
        llama,
        lambda: lora(
            layer_replication=[[0, 2], [1, 3]], rank_pattern={"layers.3.self_attn.q_proj": 2}
        ),
    ),
    "transposed weights": (
        gpt2,
        lambda: lora(
            target_modules=["c_attn", "c_proj"], fan_in_fan_out=True, rank_pattern={"c_proj": 2}
        ),
    ),
    "convolutions": (
        convolutions,
        lambda: lora(target_modules=["0", "1", "2"], rank_pattern={"0": 2}, alpha_pattern={"1": 7}),
    ),
    "adalora": (
        llama,
        lambda: peft.AdaLoraConfig(
            init_r=6, target_r=4, lora_alpha=8, target_modules=ATTENTION, total_step=10
        ),
    ),
}


def trained(make: Callable[[], Any], config: Any) -> Any:
    """A model whose adapters all do something."""
    torch.manual_seed(0)
    model = peft.get_peft_model(make(), config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def scaling_of(layer: Any) -> float:
    """The factor in the layer's forward pass; AdaLoRA divides by a rank of its own there."""
    scaling = float(layer.scaling["default"])
    return (
        scaling / (float(layer.ranknum["default"]) + 1e-5) if hasattr(layer, "ranknum") else scaling
    )


@pytest.mark.parametrize("name", ZOO)
def test_scale_and_norm_are_those_of_the_real_layer(tmp_path: Path, name: str) -> None:
    """Every adapted module has its row, and no other has one."""
    make, config = ZOO[name]
    model = trained(make, config())
    model.save_pretrained(tmp_path)

    rows = {
        row["module"]: row
        for row in measure(open_checkpoint(tmp_path), digest=False).pairs.to_pylist()
    }

    layers = {
        path.removeprefix("base_model.model."): layer
        for path, layer in model.named_modules()
        if isinstance(layer, peft.tuners.lora.LoraLayer)
    }
    assert rows.keys() == layers.keys()
    for module, layer in layers.items():
        assert rows[module]["scale"] == pytest.approx(scaling_of(layer), rel=1e-5)
        delta = layer.get_delta_weight("default").detach().double()
        assert rows[module]["norm"] == pytest.approx(float(delta.norm()), rel=1e-4)


@pytest.mark.parametrize("name", ["LoHaConfig", "LoKrConfig"])
def test_other_families_follow_the_same_patterns(tmp_path: Path, name: str) -> None:
    config = getattr(peft, name)(
        r=4,
        alpha=8,
        target_modules=ATTENTION,
        rank_pattern={"q_proj": 2},
        alpha_pattern={r"layers\.1\..*": 3},
    )
    model = trained(llama, config)
    model.save_pretrained(tmp_path)

    rows = measure(open_checkpoint(tmp_path), digest=False).effects.to_pylist()

    assert len(rows) == 2 * SMALL["num_hidden_layers"]
    for row in rows:
        layer = model.get_submodule(f"base_model.model.{row['module']}")
        delta = layer.get_delta_weight("default").detach().double()
        assert row["norm"] == pytest.approx(float(delta.norm()), rel=1e-4)


@pytest.mark.parametrize("stabilised", [True, False])
def test_adapters_on_layers_of_experts(tmp_path: Path, stabilised: bool) -> None:  # noqa: FBT001
    """Two parameters of one module carry one adapter each; their matrices hold all experts.

    The rank is that of one expert. The change of several experts is not the one product B·A, so
    its norm is not told.
    """
    config = lora(
        target_parameters=["experts.gate_up_proj", "experts.down_proj"], use_rslora=stabilised
    )
    model = trained(mixtral, config)
    model.save_pretrained(tmp_path)

    found = open_checkpoint(tmp_path)
    rows = {row["module"]: row for row in measure(found, digest=False).pairs.to_pylist()}

    experts = [name for name in rows if "experts" in name]
    assert len(experts) == 2 * SMALL["num_hidden_layers"]
    assert len(rows) == 4 * SMALL["num_hidden_layers"]
    for name in experts:
        layer = model.get_submodule(f"base_model.model.{name}")
        assert rows[name]["scale"] == pytest.approx(scaling_of(layer))
        assert (rows[name]["rank"], rows[name]["norm"]) == (4, None)


def test_parameters_with_other_patterns_are_not_guessed(tmp_path: Path) -> None:
    """Which of two parameters a wrapper holds its name does not say: two answers are none."""
    config = lora(
        target_modules=[],
        target_parameters=["experts.gate_up_proj", "experts.down_proj"],
        alpha_pattern={"experts.down_proj": 3},
    )
    trained(mixtral, config).save_pretrained(tmp_path)

    rows = measure(open_checkpoint(tmp_path), digest=False).pairs.to_pylist()

    assert {row["scale"] for row in rows} == {None}


def test_the_file_counts_where_its_order_is_another(tmp_path: Path) -> None:
    """PEFT sorts what it saves; on loading the first pattern that fits in the file is taken."""
    model = trained(llama, lora(alpha_pattern={"q_proj": 1, "layers.0.self_attn.q_proj": 2}))
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(llama(), tmp_path)

    rows = measure(open_checkpoint(tmp_path), digest=False).pairs.to_pylist()

    scales = [again.get_submodule(f"base_model.model.{row['module']}").scaling for row in rows]
    assert [row["scale"] for row in rows] == [one["default"] for one in scales]


def test_each_of_several_adapters_has_its_own_scale(tmp_path: Path) -> None:
    """The second lies in a folder of its own, with its own description."""
    model = trained(llama, lora())
    model.add_adapter("critic", lora(r=2, lora_alpha=16, use_rslora=True))
    model.save_pretrained(tmp_path)

    for candidate in discover(tmp_path):
        name = "critic" if candidate.path.name == "critic" else "default"
        rows = measure(open_checkpoint(candidate.path), digest=False).pairs.to_pylist()
        assert len(rows) == 2 * SMALL["num_hidden_layers"]
        for row in rows:
            layer = model.get_submodule(f"base_model.model.{row['module']}")
            assert row["scale"] == pytest.approx(layer.scaling[name])


def test_diffusers_components_have_their_own_patterns(tmp_path: Path) -> None:
    """What one component's description says does not reach into another's modules."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    weights, configs = {}, {}
    for name, given in {
        "unet": lora(r=4, lora_alpha=2, target_modules=["0", "2"], alpha_pattern={"2": 6}),
        "text_encoder": lora(r=8, lora_alpha=8, target_modules=["0", "2"]),
    }.items():
        model = trained(lambda: torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in "abc")), given)
        state = peft.get_peft_model_state_dict(model)
        weights[f"{name}_lora_layers"] = {
            key.removeprefix("base_model.model."): value for key, value in state.items()
        }
        configs[f"{name}_lora_adapter_metadata"] = given.to_dict()
    diffusers.StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=weights["unet_lora_layers"],
        text_encoder_lora_layers=weights["text_encoder_lora_layers"],
        **configs,
    )

    rows = measure(open_checkpoint(tmp_path), digest=False).pairs.to_pylist()

    assert {row["module"]: row["scale"] for row in rows} == {
        "unet.0": 0.5,
        "unet.2": 1.5,
        "text_encoder.0": 1.0,
        "text_encoder.2": 1.0,
    }
    assert all(math.isfinite(row["norm"]) for row in rows)
