# ruff: noqa: PLC0415 - torch is loaded only where it is needed
"""Every format and style of data becomes the tokens and labels that it says, or one sentence."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.trainer

IGNORED = -100
MARKED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}{{ m.content }}\n"
    "{% endgeneration %}{% else %}U:{{ m.content }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}A:{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{{ 'A:' if m.role == 'assistant' else 'U:' }}{{ m.content }}\n"
    "{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
)
CHAT = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "bye"},
    {"role": "assistant", "content": "so long"},
]


@pytest.fixture(scope="session")
def tokenizer(part):
    return part("tiny_base").byte_tokenizer()


@pytest.fixture
def rows(part, tokenizer):
    """Make the rows of a recipe's data section, its labels where it classifies."""

    def call(num_labels=None, **data):
        settings = {
            "output_dir": "out",
            "base": {"model": "some/model"},
            "data": {"block_size": 64, **data},
            "training": {"steps": 1},
        }
        if num_labels:
            settings |= {"task": "sequence-classification", "num_labels": num_labels}
        recipe = part("recipe_file").check(settings, "recipe")
        if recipe.data.style == "chat":
            part("data.chat").set_template(tokenizer, recipe.data)
        return part("data.samples").training_samples(recipe, tokenizer)

    return call


@pytest.fixture
def jsonl(tmp_path):
    def write(*records, name="data.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return str(path)

    return write


def words(tokenizer, tokens):
    return tokenizer.decode([token for token in tokens if token != IGNORED])


def test_text_is_cut_into_blocks_with_end_marks_between(rows, tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text("abc")
    (tmp_path / "b.txt").write_text("defghi")
    made = rows(files=[str(tmp_path / "*.txt")], block_size=4)
    blocks = [made[at]["input_ids"] for at in range(len(made))]
    assert [tokenizer.decode(block) for block in blocks] == ["abc</s>", "defg"]
    assert made[0]["labels"] == made[0]["input_ids"]


def test_a_directory_gives_its_files_of_the_format(part, tmp_path):
    """At any depth, in order, without hidden ones and without what the format does not hold."""
    for name in ("b.txt", "deep/a.md", ".git/c.txt", "model.bin"):
        path = tmp_path / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text of a file, long enough for a block")
    data = part("sections.data").Data(files=(str(tmp_path / "texts"),))
    found = part("data.files").find_files(data)
    assert [path.name for path in found] == ["b.txt", "a.md"]


def test_parquet_gives_what_json_lines_give(rows, jsonl, tmp_path):
    """Two formats of the same records are the same rows, by every byte."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = [{"prompt": f"p{at}", "completion": "c" * at} for at in range(1, 9)]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "data.parquet", row_group_size=3)
    asked = {"style": "prompt-completion"}
    one = rows(files=[jsonl(*records)], format="jsonl", **asked)
    other = rows(files=[str(tmp_path)], format="parquet", **asked)
    assert len(one) == len(records)
    assert one.facts() == other.facts()


def test_a_dataset_gives_what_json_lines_give(rows, jsonl, tmp_path):
    datasets = pytest.importorskip("datasets")
    records = [{"text": f"text number {at}" * 4} for at in range(8)]
    datasets.Dataset.from_list(records).save_to_disk(tmp_path / "saved")
    one = rows(files=[jsonl(*records)], format="jsonl")
    other = rows(files=[str(tmp_path / "saved")], format="dataset")
    assert one.facts() == other.facts()
    both = datasets.DatasetDict({"train": datasets.Dataset.from_list(records)})
    both.save_to_disk(tmp_path / "split")
    assert rows(files=[str(tmp_path / "split")], format="dataset").facts() == one.facts()


@pytest.mark.parametrize("only", [True, False])
def test_the_loss_counts_completions_unless_told_otherwise(rows, jsonl, tokenizer, *, only):
    file = jsonl({"prompt": "2+2=", "completion": "4"})
    made = rows(files=[file], format="jsonl", style="prompt-completion", completion_only=only)
    row = made[0]
    assert tokenizer.decode(row["input_ids"]) == "2+2=4</s>"
    assert words(tokenizer, row["labels"]) == ("4</s>" if only else "2+2=4</s>")


@pytest.mark.parametrize("template", [MARKED, PLAIN])
def test_the_loss_counts_replies_whether_or_not_the_template_marks_them(
    rows, jsonl, tmp_path, *, tokenizer, template
):
    (tmp_path / "chat.jinja").write_text(template)
    made = rows(
        files=[jsonl({"messages": CHAT})],
        format="jsonl",
        style="chat",
        chat_template=str(tmp_path / "chat.jinja"),
    )
    row = made[0]
    assert tokenizer.decode(row["input_ids"]) == "U:hi\nA:hello\nU:bye\nA:so long\n"
    assert words(tokenizer, row["labels"]) == "hello\nso long\n"


def test_a_template_that_rewrites_earlier_turns_is_refused(part, rows, jsonl, tmp_path):
    """One that shows only the last turn: what a reply adds cannot be told."""
    (tmp_path / "chat.jinja").write_text("{{ messages[-1].content }}")
    refused = part("errors").RefusedError
    settings = {"format": "jsonl", "style": "chat", "files": [jsonl({"messages": CHAT})]}
    with pytest.raises(refused, match=r"data\.jsonl:1.*rewrites earlier turns"):
        rows(**settings, chat_template=str(tmp_path / "chat.jinja"))


def test_a_chat_without_a_template_is_refused(part, rows, jsonl, tokenizer):
    tokenizer.chat_template = None
    with pytest.raises(part("errors").RefusedError, match="has no chat template"):
        rows(files=[jsonl({"messages": CHAT})], format="jsonl", style="chat")


@pytest.mark.parametrize(
    ("record", "settings", "said"),
    [
        ({"prompt": "a"}, {"style": "prompt-completion"}, "no text under 'completion'"),
        ({"messages": "a"}, {"style": "chat"}, "no list of messages under 'messages'"),
        ({"text": 3}, {}, "no text under 'text'"),
        ({"text": "a", "label": 9}, {"num_labels": 2}, "'label' is 9"),
        ({"prompt": "a" * 99, "completion": "b"}, {"style": "prompt-completion"}, "no record has"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(  # noqa: PLR0917 - fixtures, and a case of three
    part, rows, jsonl, tokenizer, record, settings, said
):
    tokenizer.chat_template = PLAIN
    with pytest.raises(part("errors").RefusedError, match=said):
        rows(files=[jsonl(record)], format="jsonl", **settings)


def test_a_broken_parquet_file_is_refused(part, rows, tmp_path):
    (tmp_path / "data.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(part("errors").RefusedError, match="can't be read as Parquet"):
        rows(files=[str(tmp_path)], format="parquet")


@given(st.lists(st.integers(1, 20), max_size=60))
def test_filling_keeps_every_record_once_and_within_the_block(part, lengths):
    """And no two blocks could have been one: the two emptiest do not fit together."""
    encoded, fill = part("data.encode").Encoded, part("data.blocks").fill
    records = [encoded([at] * length, []) for at, length in enumerate(lengths)]
    groups = fill(records, 20)
    assert sorted(id(record) for group in groups for record in group) == sorted(map(id, records))
    sizes = sorted(sum(len(record.tokens) for record in group) for group in groups)
    assert all(size <= 20 for size in sizes)
    assert len(sizes) < 2 or sum(sizes[:2]) > 20
    firsts = [group[0].tokens[0] for group in groups]
    assert firsts == sorted(firsts)


def test_records_side_by_side_do_not_see_each_other(rows, jsonl, base_model, part):
    """The loss over a filled block is the mean of the losses of its records alone."""
    import torch

    records = [{"prompt": "abc", "completion": "d" * at} for at in (3, 9, 5)]
    settings = {"files": [jsonl(*records)], "format": "jsonl", "style": "prompt-completion"}
    filled, alone = rows(**settings, packing="fill"), rows(**settings)
    assert (len(filled), len(alone)) == (1, 3)
    recipe = {"output_dir": "out", "base": {"model": str(base_model)}, "training": {"steps": 1}}
    checked = part("recipe_file").check({**recipe, "data": {"files": ["x"]}}, "recipe")
    model = part("model").load_base(checked, "cpu", 0).eval()
    collate = part("data.collate").Collator(0)
    with torch.no_grad():
        together = model(**collate([filled[0], filled[0]])).loss
        parts = [model(**collate([alone[at]])).loss for at in range(3)]
        padded = model(**collate([alone[at] for at in range(3)])).loss
    counts = torch.tensor([4.0, 10.0, 6.0])  # the completion and its end mark
    expected = (torch.stack(parts) * counts).sum() / counts.sum()
    assert together.item() == pytest.approx(expected.item(), rel=1e-5)
    assert padded.item() == pytest.approx(expected.item(), rel=1e-5)


def test_other_rows_have_another_digest(rows, jsonl):
    one = rows(files=[jsonl({"text": "a" * 99}, name="a.jsonl")], format="jsonl")
    other = rows(files=[jsonl({"text": "a" * 98 + "b"}, name="b.jsonl")], format="jsonl")
    again = rows(files=[jsonl({"text": "a" * 99}, name="c.jsonl")], format="jsonl")
    assert one.facts() == again.facts()
    assert one.facts() != other.facts() or len(one) == 1


def test_a_training_on_filled_chats_resumes_bit_for_bit(train, jsonl, tmp_path, losses):
    (tmp_path / "chat.jinja").write_text(PLAIN)
    turns = [{"messages": [*CHAT, {"role": "user", "content": "x" * at}]} for at in range(12)]
    data = {"files": [jsonl(*turns)], "format": "jsonl", "style": "chat", "packing": "fill"}
    data |= {"block_size": 128, "chat_template": str(tmp_path / "chat.jinja")}
    settings = {"data": json.dumps(data), "training__steps": 4}
    assert train(tmp_path / "whole", **settings) == 0
    options = ("--resume", tmp_path / "whole" / "checkpoint-2")
    assert train(tmp_path / "parts", *options, **settings) == 0
    whole = losses(tmp_path / "whole")
    assert losses(tmp_path / "parts") == {3: whole[3], 4: whole[4]}
