"""The recipes that users begin from really train, on a model of a few numbers."""

from __future__ import annotations

import json

import pytest

import sentinel

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

TEMPLATE = (
    "{% for m in messages %}{{ 'A:' if m.role == 'assistant' else 'U:' }}{{ m.content }}\n"
    "{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
)
SMALL = {
    "training.steps": 4,
    "training.warmup_steps": 1,
    "training.save_every": 2,
    "training.log_every": 1,
    "training.tensorboard": "false",
    "data.block_size": 128,
}


@pytest.fixture
def begin(part, base_model, tmp_path):
    """Train a bundled recipe for four steps, as a user begins one."""

    def call(name, **more):
        out = tmp_path / "out"
        settings = {"base.model": base_model, "output_dir": out, **SMALL, **more}
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        assert part("main").main([str(part("bundled").DIRECTORY / name), *words]) == 0
        return list(sentinel.scan(out, settle_s=0))

    return call


@pytest.mark.parametrize("name", ["qlora-bf16.yaml", "qlora-fp16.yaml"])
def test_a_chat_is_learnt_on_a_packed_base(begin, tmp_path, name):
    turns = [
        [{"role": "user", "content": f"{at}+1?"}, {"role": "assistant", "content": str(at + 1)}]
        for at in range(60)
    ]
    lines = "".join(json.dumps({"messages": each}) + "\n" for each in turns)
    (tmp_path / "chats.jsonl").write_text(lines)
    (tmp_path / "chat.jinja").write_text(TEMPLATE)
    judged = begin(
        name,
        **{
            "data.files": tmp_path / "chats.jsonl",
            "data.chat_template": tmp_path / "chat.jinja",
            "training.gradient_accumulation": 2,
        },
    )
    assert [each.checkpoint.step for each in judged] == [2, 4]
    assert {each.verdict.level for each in judged} == {"healthy"}


def test_a_classifier_is_trained(begin, tmp_path):
    rows = [{"text": f"line number {at}", "label": at % 2} for at in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = begin(
        "classification.yaml", **{"data.files": tmp_path / "rows.jsonl", "num_labels": 2}
    )
    assert {each.verdict.level for each in judged} == {"healthy"}


def test_the_standard_library_is_learnt(begin):
    judged = begin("standard-library.yaml")
    assert [each.checkpoint.step for each in judged] == [2, 4]
    assert {each.verdict.level for each in judged} == {"healthy"}
