"""Metadata of sd-scripts and musubi-tuner: any text in it ends in settings, never in an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.formats import ss_metadata
from sentinel.formats.python_call import call_of

KEYS = [
    *("ss_optimizer", "ss_network_args", "ss_network_module", "ss_lr_warmup_steps", "ss_steps"),
    *("ss_epoch", "ss_full_fp16", "ss_fp8_base", "ss_max_train_steps", "ss_text_encoder_lr"),
    *("ss_mixed_precision", "ss_network_dim", "modelspec.implementation_version"),
]
texts = st.text(max_size=30) | st.sampled_from(
    ["None", "True", "nan", "-inf", "1e400", "[1, 2]", "{}", '{"algo": 7}', "a.B(c=(1, (2)), d=[)"]
)


@given(st.dictionaries(st.sampled_from(KEYS), texts))
def test_no_metadata_raises(metadata: dict[str, str]) -> None:
    settings = ss_metadata.settings_of(metadata)

    assert all(type(value) in {str, int, float, bool} for value in settings.values())
    assert ss_metadata.trainer_of(metadata) in {None, "sd-scripts", "musubi-tuner"}
    updates = ss_metadata.updates_of(metadata)
    assert updates is None or 0 < updates <= ss_metadata.step_of(metadata)
    ss_metadata.adapter_of(metadata)


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("AdamW", "AdamW", {}),
        ("a.b.C(k=1,l=2.5)", "a.b.C", {"k": 1, "l": 2.5}),
        ("C(betas=(0.9, 0.99),eps=1e-08)", "C", {"betas": (0.9, 0.99), "eps": 1e-08}),
        ("C(eps=(1e-30, None),x=True)", "C", {"eps": (1e-30, None), "x": True}),
        ("C(mode=min,none=None)", "C", {"mode": "min", "none": None}),
        ("C(a=[1, (2, 3)],b=1)", "C", {"a": (1, "(2, 3)"), "b": 1}),
        ("C(broken", None, None),
        ("", None, None),
        ("C(" + "a" * 5000 + ")", None, None),
    ],
)
def test_a_call_is_taken_apart(text: str, name: str | None, arguments: object) -> None:
    found = call_of(text)

    assert (found and found.name, found and dict(found.arguments)) == (name, arguments)


@pytest.mark.parametrize(
    ("warmup", "updates"), [("0", 90), ("10", 80), ("0.1", 80), ("1.0", 89), ("90", None)]
)
def test_a_warm_up_below_one_is_a_share(warmup: str, updates: int | None) -> None:
    metadata = {"ss_steps": "90", "ss_max_train_steps": "100", "ss_lr_warmup_steps": warmup}

    assert ss_metadata.updates_of(metadata) == updates


@pytest.mark.parametrize(
    ("metadata", "precision"),
    [
        ({"ss_full_fp16": "True", "ss_mixed_precision": "fp16"}, "fp16"),
        ({"ss_full_fp16": "False", "ss_mixed_precision": "fp16"}, "fp32"),
        ({"ss_full_fp16": "False", "ss_mixed_precision": "no"}, "fp32"),
        ({"ss_full_fp16": "False", "ss_mixed_precision": "bf16"}, None),
        (
            {"ss_full_fp16": "False", "ss_mixed_precision": "bf16", "ss_num_train_items": "2"},
            "fp32",
        ),
        ({}, None),
    ],
)
def test_the_precision_an_adapter_was_trained_in(
    metadata: dict[str, str], precision: str | None
) -> None:
    """sd-scripts does not write `--full_bf16` down; musubi-tuner always trains in fp32."""
    assert ss_metadata.settings_of(metadata).get("precision.adapter") == precision
