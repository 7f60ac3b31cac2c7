"""A LoRA in GGUF: roles, scale, the side that starts at zero, and what llama.cpp makes special."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import sentinel
from sentinel.checkpoint import Checkpoint, Tensor
from sentinel.cli.show import command
from sentinel.formats.opening import open_checkpoint

RANK = 4
SHAPES = {"attn_q": (64, 64), "attn_v": (32, 64), "ffn_down": (64, 128)}


def pairs(seed: int = 0, *, zero: bool = False) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A and B of two layers, A as PEFT draws it."""
    random = np.random.default_rng(seed)
    return {
        f"blk.{layer}.{name}.weight": (
            random.uniform(-1, 1, (RANK, inputs)) / np.sqrt(inputs),
            np.zeros((outputs, RANK)) if zero else random.normal(0, 1e-3, (outputs, RANK)),
        )
        for layer in range(2)
        for name, (outputs, inputs) in SHAPES.items()
    }


def by_name(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return {tensor.name: tensor for tensor in checkpoint.tensors}


def judged(path: Path) -> tuple[dict[str, str], list[dict[str, object]]]:
    (judgement,) = sentinel.scan(path, settle_s=0)
    assert judgement.measured is not None
    found = {one.rule: one.severity for one in judgement.verdict.findings}
    return found, judgement.measured.pairs.to_pylist()


def test_roles_modules_and_settings(writing) -> None:
    found = open_checkpoint(writing.lora("cat.gguf", pairs()))

    assert (found.layout, found.faults) == ("gguf-lora", ())
    down = by_name(found)["blk.1.attn_v.weight.lora_a"]
    up = by_name(found)["blk.1.attn_v.weight.lora_b"]
    assert (down.role, down.module, down.shape) == ("lora_down", "blk.1.attn_v", (RANK, 64))
    assert (up.role, up.module, up.shape) == ("lora_up", "blk.1.attn_v", (32, RANK))
    assert (down.family, down.zero_at_init, up.zero_at_init) == ("lora", False, True)
    assert found.adapter is not None
    assert (found.adapter.rank, found.adapter.alpha) == (RANK, 16.0)
    assert found.settings["adapter.alpha"] == 16.0
    assert found.settings["base.name"] == "Tiny"


@pytest.mark.parametrize(("alpha", "scale"), [(16.0, 4.0), (1.0, 0.25), (0.0, 1.0)])
def test_the_change_is_scaled_as_llama_cpp_does(writing, alpha: float, scale: float) -> None:
    """alpha / rank, and one where alpha is zero (`llama_adapter_lora_weight::get_scale`)."""
    given = pairs()

    _findings, rows = judged(writing.lora("cat.gguf", given, alpha=alpha))

    assert len(rows) == len(given)
    for row in rows:
        lora_a, lora_b = (m.astype("f4").astype("f8") for m in given[f"{row['module']}.weight"])
        assert (row["rank"], row["scale"]) == (RANK, scale)
        assert row["norm"] == pytest.approx(scale * np.linalg.norm(lora_b @ lora_a))
        assert (row["out_features"], row["in_features"]) == (len(lora_b), lora_a.shape[1])


def test_a_healthy_one_is_quiet_and_a_dead_one_is_not(writing) -> None:
    assert judged(writing.lora("cat.gguf", pairs()))[0] == {}
    assert judged(writing.lora("dead.gguf", pairs(zero=True)))[0] == {"dead-lora-up": "warning"}


def test_a_packed_one_that_is_dead_is_seen_too(writing) -> None:
    """--outtype q8_0: rows shorter than a block stay F16, and scales of zero are zeros."""
    given = {"blk.0.attn_q.weight": (np.ones((32, 64)), np.zeros((64, 32)))}
    path = writing.lora("cat.gguf", given, kind="Q8_0")

    assert {one.dtype for one in open_checkpoint(path).tensors} == {"Q8_0"}
    assert "dead-lora-up" in judged(path)[0]


def test_embeddings_lie_the_other_way_round(writing) -> None:
    """llama.cpp looks rows up in lora_a, and PEFT starts just that one at zero."""
    random = np.random.default_rng(0)
    given = {"token_embd.weight": (np.zeros((RANK, 40)), random.normal(0, 1, (64, RANK)))}
    path = writing.lora("cat.gguf", {**pairs(), **given})
    raw = path.read_bytes()

    found = by_name(open_checkpoint(path))

    down, up = found["token_embd.weight.lora_a"], found["token_embd.weight.lora_b"]
    assert (down.shape, down.strides, up.shape) == ((RANK, 40), (1, RANK), (64, RANK))
    assert (down.zero_at_init, up.zero_at_init) == (True, False)
    assert raw[down.offset :][: down.size_bytes] == bytes(RANK * 40 * 4)
    (row,) = (row for row in judged(path)[1] if row["module"] == "token_embd")
    assert (row["rank"], row["in_features"], row["out_features"]) == (RANK, 40, 64)
    assert (row["zero_side"], row["zero_side_zero_count"]) == (down.name, RANK * 40)


def test_stacked_experts_keep_their_rank(writing) -> None:
    random = np.random.default_rng(0)
    given = (random.normal(0, 1, (8, RANK, 64)), np.zeros((8, 32, RANK)))
    path = writing.lora("cat.gguf", {"blk.0.ffn_up_exps.weight": given})

    (row,) = judged(path)[1]

    assert (row["rank"], row["in_features"], row["out_features"]) == (RANK, 64, 32)
    assert (row["scale"], row["norm"]) == (4.0, None)


def test_norms_that_came_along_are_whole_weights(writing) -> None:
    """mergekit-extract-lora puts them beside the matrices."""
    path = writing.lora("cat.gguf", pairs(), whole={"blk.0.attn_norm.weight": np.ones(64)})

    assert by_name(open_checkpoint(path))["blk.0.attn_norm.weight"].role == "modules_to_save"
    assert judged(path)[0] == {}


def test_checkpoints_of_one_run_are_ordered_by_step(writing) -> None:
    for step in (200, 30):
        writing.lora(f"cat-step{step:08d}.gguf", pairs(step))

    found = sentinel.scan(writing.root, settle_s=0)

    assert [one.checkpoint.step for one in found] == [30, 200]
    rows = found[1].measured.tensors
    assert rows.num_rows == 2 * len(pairs())


def test_show_tells_what_llama_cpp_wrote(writing) -> None:
    path = writing.lora("cat.gguf", pairs())
    said = CliRunner().invoke(command, [str(path), "--meta", "--modules"]).output

    assert "gguf-lora" in said
    assert "adapter.lora.alpha    " in said
    assert "6 lora_down, 6 lora_up" in said
    assert "blk.1.ffn_down" in said
