"""Names of an adapter's modules beside those of a base: found where a library would find them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.stats.base_match import match_modules

LAYERS = [f"layers.{number}.attn.{name}" for number in range(3) for name in ("q", "k")]


def under(prefix: str) -> list[str]:
    return [f"{prefix}{name}" for name in LAYERS]


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        ("model.", "model."),
        ("model.language_model.", "model."),
        ("model.", "language_model.model."),
        ("", "transformer."),
        ("transformer.", ""),
        ("bert.encoder.", "encoder."),
    ],
)
def test_prefixes_of_wrapping_classes(own: str, theirs: str) -> None:
    expected = dict(zip(under(own), under(theirs), strict=True))

    assert (
        match_modules(under(own), [*under(theirs), "lm_head", "visual.blocks.0.attn.q"]) == expected
    )


@pytest.mark.parametrize(
    ("own", "theirs"),
    [("lora_unet_", ""), ("lora_unet_", "unet."), ("lora_te1_", "text_encoder."), ("lycoris_", "")],
)
def test_names_flattened_by_kohya(own: str, theirs: str) -> None:
    flat = [f"{own}{name.replace('.', '_')}" for name in LAYERS]

    assert match_modules(flat, under(theirs)) == dict(zip(flat, under(theirs), strict=True))


def test_a_layer_is_never_taken_for_another() -> None:
    """A base with fewer layers lacks them, whatever its other layers are called."""
    base = [f"model.layers.{number}.attn.q" for number in range(2)]
    adapter = [f"model.layers.{number}.attn.q" for number in range(4)]

    assert match_modules(adapter, base) == {name: name for name in base}
    assert match_modules([f"x.{name}" for name in adapter], base).keys() == {
        f"x.{name}" for name in base
    }


def test_one_tower_is_not_taken_for_another() -> None:
    """Both towers have the same names inside; each keeps its own."""
    base = [*under("model.vision."), *under("model.language.")]
    adapter = [*under("vision."), *under("language.")]

    assert match_modules(adapter, base) == dict(zip(adapter, base, strict=True))


def test_another_model_has_none() -> None:
    assert match_modules(["h.0.c_attn", "h.1.c_attn"], under("model.")) == {}


NAMES = st.lists(st.sampled_from(["a", "b", "0", "1", "q"]), min_size=1, max_size=5).map(".".join)


@given(st.lists(NAMES, max_size=8), st.lists(NAMES, max_size=8))
def test_laws(adapter: list[str], base: list[str]) -> None:
    """A match is in the base, given once, ends alike, and equal names always match."""
    found = match_modules(adapter, base)

    assert found.keys() <= set(adapter)
    assert set(found.values()) <= set(base)
    assert len(set(found.values())) == len(found)
    assert all(found[name] == name for name in adapter if name in base)
    assert all(own.split(".")[-1] == theirs.split(".")[-1] for own, theirs in found.items())
