"""Norms of B·A against numpy, which forms the product; scales against the libraries' rules."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sentinel.checkpoint import AdapterConfig, Checkpoint
from sentinel.stats import gram, products
from sentinel.stats.measure import measure
from sentinel.stats.pairs import component_of
from sentinel.stats.scale import scale_of

Save = Callable[[dict[str, np.ndarray]], Checkpoint]


def rows(checkpoint: Checkpoint) -> list[dict]:
    return measure(checkpoint, digest=False).pairs.to_pylist()


def normal(*shape: int, dtype: str = "f4") -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_the_norm_is_that_of_the_product(saved: Save, dtype: str) -> None:
    """Gram matrices give ‖scale·B·A‖ as numpy does from the formed product."""
    up, down = normal(96, 8, dtype=dtype), normal(8, 64, dtype=dtype)
    alpha = np.array(4.0, "f4")

    [row] = rows(saved({"m.lora_up.weight": up, "m.lora_down.weight": down, "m.alpha": alpha}))

    product = up.astype("f8") @ down.astype("f8") * 0.5
    assert row["norm"] == pytest.approx(np.linalg.norm(product), rel=1e-12)
    assert (row["rank"], row["alpha"], row["scale"]) == (8, 4.0, 0.5)
    assert (row["out_features"], row["in_features"]) == (96, 64)
    assert row["up_rms"] == pytest.approx(np.sqrt((up.astype("f8") ** 2).mean()))
    largest = np.linalg.norm(product, ord=2)
    assert row["stable_rank"] == pytest.approx(np.linalg.norm(product) ** 2 / largest**2, rel=0.05)


def test_matrices_larger_than_a_piece_give_the_same_norm(
    saved: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of B and bands of columns of A, read piece by piece, add up."""
    checkpoint = saved({"m.lora_up.weight": normal(301, 5), "m.lora_down.weight": normal(5, 203)})
    [whole] = rows(checkpoint)
    monkeypatch.setattr(gram, "_BAND_ELEMENTS", 333)
    monkeypatch.setattr(products, "KEPT_BYTES", 0)

    [in_pieces] = rows(checkpoint)

    assert in_pieces["norm"] == pytest.approx(whole["norm"], rel=1e-12)


def test_a_convolution_is_flattened_as_it_is_applied(saved: Save) -> None:
    up, down = normal(12, 4, 1, 1), normal(4, 6, 3, 3)

    [row] = rows(saved({"c.lora_up.weight": up, "c.lora_down.weight": down}))

    product = up.reshape(12, 4).astype("f8") @ down.reshape(4, -1).astype("f8")
    assert row["norm"] == pytest.approx(np.linalg.norm(product))
    assert (row["out_features"], row["in_features"], row["scale"]) == (12, 6, 1.0)


def test_no_norm_where_a_value_is_not_finite(saved: Save) -> None:
    up = normal(6, 2)
    up[3, 1] = np.inf

    [row] = rows(saved({"m.lora_up.weight": up, "m.lora_down.weight": normal(2, 6)}))

    assert row["norm"] is None
    assert row["up_l2"] is not None


@pytest.mark.parametrize(
    "extra",
    [
        {"m.lora_up.weight": normal(6, 3)},
        {"m.lora_up.weight": normal(6)},
        {"m.lora_mid.weight": normal(2, 2, 3, 3)},
        {"m.lora_up.weight": np.ones((6, 2), "i4")},
    ],
    ids=["other rank", "vector", "tucker", "integers"],
)
def test_no_norm_where_the_two_do_not_multiply(saved: Save, extra: dict[str, np.ndarray]) -> None:
    tensors = {"m.lora_up.weight": normal(6, 2), "m.lora_down.weight": normal(2, 6), **extra}

    [row] = rows(saved(tensors))

    assert row["norm"] is None


def test_the_zero_side_is_named_with_its_zeros(saved: Save) -> None:
    up = normal(6, 2)
    up[:3] = 0

    [row] = rows(saved({"m.lora_up.weight": up, "m.lora_down.weight": normal(2, 6)}))

    assert row["zero_side"] == "m.lora_up.weight"
    assert (row["zero_side_zero_count"], row["zero_side_numel"]) == (6, 12)


def test_a_pair_needs_both_matrices(saved: Save) -> None:
    assert rows(saved({"m.lora_up.weight": normal(6, 2), "n.lora_down.weight": normal(2, 6)})) == []


CONFIG = AdapterConfig(
    rank=8,
    alpha=16.0,
    rank_pattern={"q_proj": 4, "layers.1.v_proj": 2},
    alpha_pattern={r"layers\.\d+\.k_proj": 3.0},
)


@pytest.mark.parametrize(
    ("module", "rank", "expected"),
    [
        ("model.layers.0.self_attn.o_proj", 8, (16.0, 2.0)),
        ("model.layers.0.self_attn.q_proj", 4, (16.0, 4.0)),
        ("model.layers.1.v_proj", 2, (16.0, 8.0)),
        ("model.layers.1.xv_proj", 8, (16.0, 2.0)),
        ("model.layers.7.k_proj", 8, (3.0, 0.375)),
    ],
)
def test_the_scale_follows_pefts_patterns(
    module: str, rank: int, expected: tuple[float, float]
) -> None:
    """A pattern matches a whole path or its end after a dot, as a regular expression."""
    assert scale_of(module, rank, None, CONFIG) == expected


def test_rank_stabilised_lora_divides_by_the_root() -> None:
    assert scale_of("m", 16, None, replace(CONFIG, rslora=True)) == (16.0, 4.0)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b",
        "(",
        "a*b*c*d*",
        "x" * 300 + "*",
        "(?P<n>a){9}",
        "a?" * 40 + "a" * 40,
        "(a|a)" * 30 + "b",
        r"(a)(?:b)?\1",
        "(?=a)a",
        "[[a]",
    ],
)
def test_a_hostile_pattern_leaves_the_scale_unknown(pattern: str) -> None:
    """A pattern from a file must neither hang nor raise."""
    config = replace(CONFIG, alpha_pattern={pattern: 1.0})

    assert scale_of("a" * 64, 8, None, config) == (None, None)


def test_a_pattern_of_its_own_for_every_module_is_looked_up() -> None:
    """Ten thousand names are no ten thousand expressions; of several that fit the first counts."""
    names = {f"layers.{at}.q": float(at) for at in range(10_000)}
    config = replace(CONFIG, alpha_pattern={**names, "q": -1.0, r".*\.7\.q": -2.0})

    for at in (0, 7, 9_999):
        assert scale_of(f"model.layers.{at}.q", 8, None, config)[0] == at
    assert scale_of("other.q", 8, None, config)[0] == -1
    assert scale_of("other.7.q", 8, None, replace(config, rank_pattern=names))[0] == -1
    assert scale_of("k", 8, None, config)[0] == CONFIG.alpha


def test_more_expressions_than_anyone_writes_leave_the_scale_unknown() -> None:
    patterns = {rf"a{at}.*": 1.0 for at in range(300)}
    assert scale_of("m", 8, None, replace(CONFIG, alpha_pattern=patterns)) == (None, None)


def test_a_file_without_alpha_has_scale_one() -> None:
    assert scale_of("m", 8, None, None) == (None, 1.0)
    assert scale_of("m", 0, 1.0, None) == (1.0, None)
    assert scale_of("m", 8, math.nan, None)[0] != scale_of("m", 8, math.nan, None)[0]


@pytest.mark.parametrize(
    ("module", "component"),
    [
        ("text_encoder_2.encoder.q", "text_encoder_2"),
        ("lora_unet_down_blocks_0_to_q", "unet"),
        ("lora_te_text_model", "text_encoder"),
        ("lora_te2_text_model", "text_encoder_2"),
        ("lora_te1.text_model", "text_encoder"),
        ("model.layers.0.q_proj", "model"),
        ("lycoris_x_y", ""),
        ("score", ""),
        ("", ""),
    ],
)
def test_components(module: str, component: str) -> None:
    assert component_of(module) == component
