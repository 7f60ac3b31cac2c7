"""What must hold of options among words, of arguments in one field, and of changed documents."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.errors import RepairError
from sentinel.formats.configs.values import arguments_of
from sentinel.repairs.documents import (
    difference,
    document_text,
    get_field,
    has_field,
    read_document,
    set_field,
)
from sentinel.repairs.pairs import with_pair
from sentinel.repairs.words import Grammar

GRAMMAR = Grammar(flags={"full_fp16"}, lists={"optimizer_args"})
WORDS = st.lists(
    st.sampled_from(
        ["--lr", "1e-4", "--lr=2", "--full_fp16", "--optimizer_args", "a=1", "b=2", "x.yaml", "-v"]
    )
)


@pytest.mark.parametrize(
    ("words", "without"),
    [
        ("--lr 1e-4 x.yaml", "x.yaml"),
        ("--lr=1e-4 x.yaml", "x.yaml"),
        ("a --lr -v", "a -v"),
        ("--lr -1 x", "x"),
        ("--lr 1 b --lr=2 c", "b c"),
    ],
)
def test_an_option_goes_with_its_value(words, without):
    """And with nothing else: not the next option, not the plain word behind its value."""
    assert GRAMMAR.without(words.split(), "--lr") == without.split()


def test_flags_have_no_value_and_lists_have_all():
    """A word behind a flag is its own; those behind a list are the list's."""
    words = ["--full-fp16", "x.toml", "--optimizer_args", "a=1", "b=2", "--lr", "1"]

    assert GRAMMAR.without(words, "full_fp16") == words[1:]
    assert GRAMMAR.values(words, "optimizer_args") == ("a=1", "b=2")
    assert GRAMMAR.plain_words(words) == ["x.toml"]


@given(WORDS, st.sampled_from(["--lr", "--full_fp16", "--optimizer_args"]))
def test_what_is_taken_away_is_away_and_the_rest_in_its_order(words, option):
    """Taking away twice is taking away once, and no other option is touched."""
    left = GRAMMAR.without(words, option)

    assert GRAMMAR.values(left, option) is None
    assert GRAMMAR.without(left, option) == left
    others = [told.name for told in GRAMMAR.told(words) if f"--{told.name}" != option]
    assert [told.name for told in GRAMMAR.told(left)] == others


@given(WORDS, st.sampled_from([0.5, 1e-5, "cosine", 20]))
def test_what_is_set_is_what_is_told_last(words, value):
    """Whatever the user said before."""
    told = GRAMMAR.values(GRAMMAR.with_option(words, "--lr", value), "lr")

    assert told is not None
    assert told[-1] == str(value) or float(told[-1]) == value


def test_a_switch_is_there_or_not():
    """A flag is given without a value, and left out for false."""
    assert GRAMMAR.with_option(["--full_fp16"], "--full_fp16", False) == []  # noqa: FBT003
    assert GRAMMAR.with_option([], "--full_fp16", True) == ["--full_fp16"]  # noqa: FBT003


# -- arguments in one field -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "form", "value"),
    [
        (None, "text", "eps=0.5"),
        ("eps=1e-6,betas=(0.9,0.99)", "text", "betas=(0.9,0.99),eps=0.5"),
        (["eps=1", "x=2"], "list", ["x=2", "eps=0.5"]),
        ({"eps": 1}, "mapping", {"eps": 0.5}),
    ],
)
def test_one_argument_is_set_and_the_others_stay(held, form, value):
    """In whatever form a trainer takes its optimizer's arguments."""
    assert with_pair(held, "eps", 0.5, form) == value


@given(
    st.dictionaries(st.sampled_from("abcd"), st.floats(0.001, 1000), max_size=4),
    st.sampled_from(["text", "list", "mapping"]),
    st.booleans(),
)
def test_arguments_are_read_as_they_were_set(known, form, value):
    """By the reader of configurations: the changed one new, all others as they were."""
    held: object = None
    for name, number in known.items():
        held = with_pair(held, name, number, form)

    found = arguments_of(with_pair(held, "c", value, form))

    assert found["optimizer.args.c"] is value
    for name, number in known.items():
        if name != "c":
            assert found[f"optimizer.args.{name}"] == pytest.approx(number)


# -- documents ------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.booleans(), st.integers(-(2**31), 2**31), st.text(max_size=8), st.floats(-1, 1)
)
DOCUMENTS = st.dictionaries(
    st.text("abc_-.", min_size=1, max_size=4),
    st.recursive(
        SCALARS,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text("xyz", min_size=1, max_size=3), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


@pytest.mark.parametrize(
    ("name", "parse"),
    [("x.json", json.loads), ("x.yaml", yaml.safe_load), ("x.toml", tomllib.loads)],
)
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(content=DOCUMENTS)
def test_a_document_is_read_as_it_was_written(name, parse, content):
    """Types and values, in every form: what is not changed stays what it was."""
    assert (parse(document_text(Path(name), content)) or {}) == content


def test_fields_lie_where_their_names_lead():
    """Through mappings and lists; missing parts are made, None takes away."""
    content = {"config": {"process": [{"train": {"lr": 1}}]}}

    set_field(content, "config.process.0.train.lr", 2)
    set_field(content, "config.process.0.save.dtype", "fp32")
    set_field(content, "config.name", None)

    assert content == {"config": {"process": [{"train": {"lr": 2}, "save": {"dtype": "fp32"}}]}}
    assert get_field(content, "config.process.1.train") is None
    assert not has_field(content, "config.name")


def test_dashes_before_names_are_kept():
    """A file that spells its keys as options is changed as it spells them."""
    content = {"--lr": 1}

    set_field(content, "lr", 2)
    set_field(content, "output_dir", "x")

    assert content == {"--lr": 2, "--output_dir": "x"}


def test_sections_may_mean_nothing():
    """A field is changed in the section where it stands, a new one is set before all sections."""
    content = {"training": {"lr": 1}}

    set_field(content, "lr", 2, sections=False)
    set_field(content, "resume", "x", sections=False)

    assert content == {"training": {"lr": 2}, "resume": "x"}
    assert tomllib.loads(document_text(Path("x.toml"), content)) == content


@pytest.mark.parametrize(
    ("name", "text", "fact"),
    [
        ("a.json", "{", "is not valid JSON"),
        ("a.yaml", "a: [", "is not valid YAML"),
        ("a.toml", "a = ", "is not valid TOML"),
        ("a.json", "[1]", "holds no fields"),
        ("a.env", "A=1", "is neither JSON nor YAML nor TOML"),
        ("a.json", "[" * 100_000, "is not valid JSON"),
    ],
)
def test_what_cannot_be_changed_is_said(tmp_path: Path, name, text, fact):
    """One sentence that names the file and what is wrong with it."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")

    with pytest.raises(RepairError, match=fact):
        read_document(path)


def test_the_difference_names_file_and_line():
    """As `diff -u` writes it, from the user's file to the copy."""
    text = difference(Path("/x/c.json"), "a\nb\nc\n", "a\nB\nc\n")

    assert text.splitlines()[:2] == ["--- /x/c.json", "+++ /x/c.json (changed copy)"]
    assert "-b\n+B\n" in text


@pytest.mark.parametrize(
    "line", ['"hf_token": "abc",', "hub_token: abc", 'api_key = "abc"', "    --hub_token abc \\"]
)
def test_secrets_are_not_in_the_difference(line):
    """Neither changed nor beside what was changed."""
    text = difference(Path("c"), f"a\n{line}\n", f"b\n{line}\n")

    assert "abc" not in text
    assert "***" in text
