"""Keys that PEFT would not find get the names it looks for; two of one name are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.checkpoint import Tensor
from sentinel.errors import ConfigError, RepairError
from sentinel.formats.roles import assign_roles
from sentinel.repairs.files.keys import KeyRules, key_rules_of, new_keys

PEFT = "adapter_model.safetensors"
GOOD = "base_model.model.layers.0.q"


def tensors(*names: str, member: str = PEFT) -> tuple[Tensor, ...]:
    return assign_roles([Tensor(name, member, "F32", (2, 2), 0, 16) for name in names], None)


def renamed(*names: str, rules: str = "auto", member: str = PEFT) -> list[str]:
    given_ = tensors(*names, member=member)
    found = new_keys(given_, key_rules_of(rules.split()))
    return [found.get(name, name) for name in names]


@pytest.mark.parametrize(
    "prefix",
    [
        "layers.0.q",
        "module.base_model.model.layers.0.q",
        "_orig_mod.base_model.model.layers.0.q",
        "base_model.model._orig_mod.layers.0.q",
        "base_model.model.layers.0._fsdp_wrapped_module.q",
        "base_model.model.layers.0._checkpoint_wrapped_module.q",
        "base_model.model.layers.0.q.base_layer",
        "base_model.model.layers.0.q.base_layer.base_layer",
        "model.base_model.model.layers.0.q",
        "base_model.layers.0.q",
        "module.layers.0.q.base_layer",
    ],
)
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("lora_A.weight", "lora_B.weight"),
        ("lora_A.default.weight", "lora_B.default.weight"),
        ("lora_down.weight", "lora_up.weight"),
        ("lora_A.weight._data", "lora_B.weight._data"),
    ],
)
def test_automatic_names_are_those_that_peft_looks_for(prefix, a, b):
    """Every wrapper, the missing prefix, the adapter's name, kohya's names, quanto's suffix."""
    found = renamed(f"{prefix}.{a}", f"{prefix}.{b}")

    assert found == [f"{GOOD}.lora_A.weight", f"{GOOD}.lora_B.weight"]


@pytest.mark.parametrize(
    "names",
    [
        (f"{GOOD}.lora_A.weight", f"{GOOD}.lora_B.weight", f"{GOOD}.lora_magnitude_vector"),
        # stacked experts and torch's attention nest one adapter in another
        (f"{GOOD}.lora_A.weight", f"{GOOD}.base_layer.lora_A.weight"),
        (f"{GOOD}.lora_A.weight", f"{GOOD}.base_layer.out_proj.lora_A.weight"),
        ("base_model.model.e.base_layer.weight", "base_model.model.e.lora_embedding_A"),
        ("prompt_embeddings",),
        ("base_model.vera_A", "base_model.vera_B", f"{GOOD}.vera_lambda_b"),
        # two adapters in one file are told apart by nothing else
        (f"{GOOD}.lora_A.one.weight", f"{GOOD}.lora_A.two.weight"),
        # packed by optimum-quanto: another name would not unpack it
        (f"{GOOD}.lora_A.weight._data", f"{GOOD}.lora_A.weight._scale"),
    ],
)
def test_healthy_names_stay(names):
    """What PEFT itself writes, and what a new name would not mend."""
    assert renamed(*names) == list(names)


def test_what_is_saved_whole_gets_the_prefix_too():
    """A head beside an adapter whose prefix was taken off."""
    found = renamed("layers.0.q.lora_A.weight", "score.weight")

    assert found == [f"{GOOD}.lora_A.weight", "base_model.model.score.weight"]


def test_what_is_saved_whole_loses_its_wrapper():
    """PEFT raises a KeyError for the wrapped name; of two adapters neither can be told."""
    one = "base_model.model.score.modules_to_save.default.weight"
    other = "base_model.model.score.modules_to_save.other.weight"

    assert renamed(one, f"{GOOD}.lora_A.weight")[0] == "base_model.model.score.weight"
    assert renamed(one, other) == [one, other]


def test_other_libraries_names_keep_their_prefix():
    """Only wrappers are taken out of a file that is none of PEFT's."""
    names = ("module.transformer.q.lora_A.weight", "transformer.k.lora_A.default.weight")

    found = renamed(*names, member="pytorch_lora_weights.safetensors")

    assert found == ["transformer.q.lora_A.weight", "transformer.k.lora_A.weight"]


def test_own_rules_replace_prefixes_and_fill_patterns():
    """A prefix, a pattern, several in turn, and nothing where none fits."""
    names = ("unet.a.q.lora_A.weight", "unet.b.k.lora_A.weight", "te.lora_A.weight")

    assert renamed(*names, rules="unet.=transformer.", member="x") == [
        "transformer.a.q.lora_A.weight",
        "transformer.b.k.lora_A.weight",
        "te.lora_A.weight",
    ]
    assert renamed(*names, rules="unet.*.q.*=u.*_q.* te.=unet.", member="x") == [
        "u.a_q.lora_A.weight",
        "unet.b.k.lora_A.weight",
        "unet.lora_A.weight",
    ]


def test_two_tensors_of_one_key_are_refused():
    """Both are named."""
    with pytest.raises(RepairError, match=r"'a\.w' and 'b\.w': would both become 'c\.w'"):
        renamed("a.w", "b.w", rules="a.=c. b.=c.", member="x")
    with pytest.raises(RepairError, match="would both become"):
        renamed(f"{GOOD}.lora_A.weight", f"module.{GOOD}.lora_A.weight")


@pytest.mark.parametrize("text", ["automatic", "=x", "a.*=b", "a=b.*"])
def test_a_rule_that_is_none_is_refused(text):
    """Neither automatic nor a replacement, or with another number of stars."""
    with pytest.raises(ConfigError, match="renaming"):
        key_rules_of([text])


@given(st.lists(st.text("ab.*", min_size=1, max_size=8), min_size=1, max_size=6, unique=True))
def test_keys_stay_unique_or_are_refused(names):
    """Whatever the names are, no key is lost; doing it again changes nothing."""
    given_ = tensors(*names)
    try:
        found = new_keys(given_, KeyRules(auto=True))
    except RepairError:
        return
    after = [found.get(name, name) for name in names]
    assert len(set(after)) == len(names)
    assert new_keys(tensors(*after), KeyRules(auto=True)) == {}
