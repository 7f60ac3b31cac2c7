"""YAML from anyone: the values that PyYAML's safe loader makes, or one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import InputError
from sentinel.formats.containers.yaml_text import DEEPEST, MOST_VALUES, parse_yaml

NINE = 9


def parse(text: str) -> object:
    return parse_yaml(Path("a.yaml"), text)


def laughs(kind: str) -> str:
    """A few lines that stand for 9 to the 12th values, by aliases or by merging."""
    lines = ["a0: &a0 {k0: 1, k1: 2, k2: 3}"]
    for level in range(1, 13):
        inner = ", ".join([f"*a{level - 1}"] * NINE)
        body = f"{{<<: [{inner}], k{level}: 1}}" if kind == "merge" else f"[{inner}]"
        lines.append(f"a{level}: &a{level} {body}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (laughs("alias"), f"stands for more than {MOST_VALUES} values"),
        (laughs("merge"), f"stands for more than {MOST_VALUES} values"),
        ("- x\n" * (MOST_VALUES + 1), f"stands for more than {MOST_VALUES} values"),
        ("[" * 5000, f"is nested deeper than {DEEPEST} levels"),
        ("a: &a [*a]", "names '*a', which it does not define before"),
        ("a: b: c", "is no YAML (mapping values are not allowed here in line 1)"),
        ("{", "is no YAML"),
    ],
    ids=["alias-bomb", "merge-bomb", "long", "deep", "loop", "broken", "torn"],
)
def test_hostile_text_ends_in_one_sentence(text, fact):
    """No alias, depth or length makes it larger than a configuration is."""
    with pytest.raises(InputError) as told:
        parse(text)

    assert fact in str(told.value)


@pytest.mark.parametrize(
    "text",
    [
        "lr: 1e-4\neps: 1.0e-6\nflag: yes\nnone: ~\nhex: 0x1f\nword: 'on'\n",
        "a: &x {k: 1, j: [2, 3]}\nb: *x\nc: {<<: *x, k: 9}\n",
        "---\nmany:\n  - x\n  - {y: !!float 3}\n",
        "",
    ],
)
def test_values_are_those_that_trainers_read(text):
    """Trainers read with `yaml.safe_load`: `1e-4` is text to them, `yes` is true."""
    assert parse(text) == yaml.safe_load(text)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(plain)
def test_what_was_dumped_comes_back(value):
    """Round trip: everything PyYAML writes of plain data is read as it was."""
    assert parse(yaml.safe_dump(value)) == value


@given(st.text(alphabet="abx*&<:-?![]{},|>'\"#%@ \n\t"))
def test_any_text_is_a_value_or_one_sentence(text):
    """No other exception comes out of the parser."""
    said = "file 'a.yaml': "
    try:
        parse(text)
    except InputError as error:
        said = str(error)
    assert said.startswith("file 'a.yaml': ")
