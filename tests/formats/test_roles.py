"""From keys to modules, roles and zero sides, for each library's way of naming."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.checkpoint import AdapterConfig, Role, Tensor
from sentinel.formats.roles import Assignment, assign_roles, holds_base, role_of

P = "base_model.model."
Q = "model.layers.0.self_attn.q_proj"


def zero(module: str, role: Role, family: str) -> Assignment:
    """An assignment to a tensor that starts at zero."""
    return Assignment(module, role, family, zero_at_init=True)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (f"{P}{Q}.lora_A.weight", Assignment(Q, "lora_down", "lora")),
        (f"{P}{Q}.lora_B.weight", zero(Q, "lora_up", "lora")),
        (f"{P}{Q}.lora_B.default.weight", zero(Q, "lora_up", "lora")),
        (f"{P}{Q}.lora_B.bias", zero(Q, "bias", "lora")),
        (f"{P}{Q}.lora_magnitude_vector", Assignment(Q, "magnitude", "lora")),
        (f"{P}{Q}.lora_magnitude_vector.weight", Assignment(Q, "magnitude", "lora")),
        (f"{P}m.embed.lora_embedding_A", zero("m.embed", "lora_down", "lora")),
        (f"{P}m.embed.lora_embedding_B", Assignment("m.embed", "lora_up", "lora")),
        (f"{P}m.embed.base_layer.weight", Assignment("m.embed", "base")),
        (f"{P}{Q}.base_layer.bias", Assignment(Q, "bias")),
        (f"{P}score.weight", Assignment("score", "modules_to_save")),
        (f"{P}score.modules_to_save.default.weight", Assignment("score", "modules_to_save")),
        (f"{P}norm.bias", Assignment("norm", "bias")),
        (f"{P}{Q}.hada_w2_b", zero(Q, "adapter", "loha")),
        (f"{P}{Q}.hada_w2_a", Assignment(Q, "adapter", "loha")),
        (f"{P}{Q}.lokr_w1_a", zero(Q, "adapter", "lokr")),
        (f"{P}{Q}.lokr_w2", Assignment(Q, "adapter", "lokr")),
        (f"{P}{Q}.oft_R.weight", zero(Q, "adapter", "oft")),
        (f"{P}{Q}.ia3_l", Assignment(Q, "adapter", "ia3")),
        (f"{P}{Q}.vera_lambda_b", zero(Q, "adapter", "vera")),
    ],
)
def test_peft(key: str, expected: Assignment) -> None:
    assert role_of(key) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("lora_te1_x.lora_down.weight", Assignment("lora_te1_x", "lora_down", "lora")),
        ("lora_te1_x.lora_up.weight", zero("lora_te1_x", "lora_up", "lora")),
        ("lora_te1_x.lora_mid.weight", Assignment("lora_te1_x", "lora_mid", "lora")),
        ("lora_te1_x.alpha", Assignment("lora_te1_x", "alpha", "lora")),
        ("lora_te1_x.dora_scale", Assignment("lora_te1_x", "magnitude", "lora")),
        (
            "unet.down.0.to_q.lora_up.weight",
            zero("unet.down.0.to_q", "lora_up", "lora"),
        ),
        ("transformer.b.lora_A.weight", Assignment("transformer.b", "lora_down", "lora")),
        ("transformer.b.lora_B.weight", zero("transformer.b", "lora_up", "lora")),
        ("lycoris_x.hada_w2_a", zero("lycoris_x", "adapter", "loha")),
        ("lycoris_x.hada_w2_b", Assignment("lycoris_x", "adapter", "loha")),
        ("lycoris_x.lokr_w2_b", zero("lycoris_x", "adapter", "lokr")),
        ("lycoris_x.lokr_w1", Assignment("lycoris_x", "adapter", "lokr")),
        ("lycoris_x.oft_blocks", zero("lycoris_x", "adapter", "oft")),
        ("lycoris_x.diff", zero("lycoris_x", "adapter", "full")),
    ],
)
def test_kohya_onetrainer_diffusers_and_lycoris(key: str, expected: Assignment) -> None:
    """The same families start the opposite side at zero outside PEFT."""
    assert role_of(key) == expected


U = "unet.down_blocks.0.attn1"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (f"{U}.processor.to_q_lora.down.weight", Assignment(f"{U}.to_q", "lora_down", "lora")),
        (f"{U}.processor.to_out_lora.up.weight", zero(f"{U}.to_out.0", "lora_up", "lora")),
        (f"{U}.to_q.lora.up.weight", zero(f"{U}.to_q", "lora_up", "lora")),
        (f"{U}.to_q.lora_linear_layer.down.weight", Assignment(f"{U}.to_q", "lora_down", "lora")),
        (f"module.{P}{Q}.lora_B.default.weight", zero(Q, "lora_up", "lora")),
        (f"module._orig_mod.{P}{Q}.lora_A.weight", Assignment(Q, "lora_down", "lora")),
        (f"{P}{Q}.base_layer.lora_B.weight", zero(Q, "lora_up", "lora")),
        (f"{P}{Q}.base_layer.weight._data", Assignment(Q, "base")),
        ("base_model.vera_A", Assignment("", "adapter", "vera")),
        ("base_model.tinylora_v.0", zero("", "adapter", "tinylora")),
        (f"{P}{Q}.glora_A.Xd", zero(Q, "adapter", "glora")),
        (f"{P}{Q}.glora_A.Xu", Assignment(Q, "adapter", "glora")),
        ("diffusion_model.x.diff_b", zero("diffusion_model.x", "adapter", "full")),
        ("unet.x.oft_R.scaled_oft", Assignment("unet.x", "adapter", "oft")),
    ],
)
def test_older_keys_and_wrappers(key: str, expected: Assignment) -> None:
    assert role_of(key) == expected


@pytest.mark.parametrize("key", ["up.weight", "blocks.0.down.weight", "lora_x", "mlp.up.bias"])
def test_up_and_down_alone_are_no_adapter(key: str) -> None:
    assert role_of(key).role == "other"


@pytest.mark.parametrize(
    ("key", "module"),
    [("model.norm.weight", "model.norm"), ("decoder.act.alpha", "decoder.act"), ("w", "")],
)
def test_keys_of_no_adapter_stay_other(key: str, module: str) -> None:
    """An activation's own alpha is no adapter's alpha."""
    assert role_of(key) == Assignment(module, "other")


def test_alpha_counts_beside_an_adapters_matrices() -> None:
    expected = Assignment("unet.to_q", "alpha", "lora")

    assert role_of("unet.to_q.alpha", None, {"unet.to_q"}) == expected


@pytest.mark.parametrize(
    ("init", "zero_sides"),
    [
        ("default", ["lora_B"]),
        ("gaussian", ["lora_B"]),
        ("eva", ["lora_B"]),
        ("mica", ["lora_A"]),
        ("pissa", []),
        ("pissa_niter_16", []),
        ("olora", []),
        ("orthogonal", []),
        ("loftq", []),
        ("false", []),
        ("not known yet", []),
    ],
)
def test_the_initialisation_decides_the_zero_side(init: str, zero_sides: list[str]) -> None:
    config = AdapterConfig(init=init)

    sides = ["lora_A", "lora_B"]
    zeros = [side for side in sides if role_of(f"{P}q.{side}.weight", config).zero_at_init]

    assert zeros == zero_sides


def test_lycoris_initialisation_under_peft_takes_lycoris_side() -> None:
    config = AdapterConfig(family="lokr", init="lycoris")

    assert role_of(f"{P}q.lokr_w2", config).zero_at_init
    assert not role_of(f"{P}q.lokr_w1", config).zero_at_init


def test_adalora_starts_only_its_diagonal_at_zero() -> None:
    config = AdapterConfig(family="adalora")

    assert role_of(f"{P}q.lora_E", config) == zero("q", "adapter", "adalora")
    assert role_of(f"{P}q.lora_B", config) == Assignment("q", "lora_up", "adalora")


def test_a_bias_that_was_asked_to_be_saved_is_no_loose_bias() -> None:
    config = AdapterConfig(modules_to_save=("score",))

    assert role_of(f"{P}score.bias", config).role == "modules_to_save"


SEGMENTS = st.sampled_from(
    [
        *("base_model", "model", "module", "_orig_mod", "base_layer", "x", "", "weight", "bias"),
        *("lora_A", "lora_B", "lora", "up", "down", "to_q_lora", "_lora", "processor", "_data"),
        *("alpha", "a1", "diff", "on_input", "glora_A", "Xu", "lycoris_x", "modules_to_save"),
    ]
)


@given(st.lists(SEGMENTS, max_size=6).map(".".join), st.sets(st.just("x")))
def test_any_key_has_a_role(key: str, modules: set[str]) -> None:
    """Keys come from files: whatever stands in one, it is assigned and never raises."""
    found = role_of(key, None, modules)

    assert len(found.module) <= len(key)


def test_a_whole_peft_model_has_its_base_under_base() -> None:
    """Trainers that save all parameters keep the adapter's name and a prefix of their own."""
    model = "model.base_model.model.model"
    keys = [
        f"{model}.embed_tokens.weight",
        f"{model}.layers.0.q_proj.base_layer.weight",
        f"{model}.layers.0.q_proj.lora_A.default.weight",
        f"{model}.layers.0.q_proj.lora_B.default.weight",
        f"{model}.head.modules_to_save.default.weight",
        f"{model}.head.original_module.weight",
    ]

    found = assign_roles([Tensor(key, "x.ckpt", "F32", (2, 2), 0, 16) for key in keys], None)

    assert [one.role for one in found] == [
        "base", "base", "lora_down", "lora_up", "modules_to_save", "base",
    ]  # fmt: skip
    assert found[3].module == "model.layers.0.q_proj"
    assert [one.zero_at_init for one in found] == [False, False, False, True, False, False]


def test_an_adapter_alone_has_no_base() -> None:
    """What PEFT saves beside an adapter's matrices was trained, also where an embedding is."""
    keys = ["embed_tokens.base_layer.weight", "embed_tokens.lora_embedding_A", "head.weight"]
    assert not holds_base(f"base_model.model.{key}" for key in keys)
