"""Small tensors read together: the same numbers as read one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sentinel.formats.opening import open_checkpoint
from sentinel.stats import compiled
from sentinel.stats.batches import in_batches
from sentinel.stats.compiled import Run
from sentinel.stats.measure import TensorReader
from sentinel.stats.pairs import find_pairs
from sentinel.stats.products import Products
from sentinel.stats.reading import MemberFiles

compiled_only = pytest.mark.skipif(not compiled.is_available(), reason="no compiled kernel here")
ROOM_BYTES = 128 * 1024


@pytest.fixture
def tensors(tmp_path: Path) -> dict[str, np.ndarray]:
    """An adapter of many small tensors, some of them odd, as one file."""
    draw = np.random.default_rng(0).standard_normal
    found: dict[str, np.ndarray] = {}
    for layer, kind in enumerate([np.float32, np.float16, np.float64] * 4):
        module = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        found[f"{module}.lora_A.weight"] = draw((8, 1500)).astype(kind)
        found[f"{module}.lora_B.weight"] = draw((1600, 8)).astype(kind)
    names = sorted(found)
    found[names[0]][0, 0] = np.nan
    found[names[3]][:] = 0
    found["base_model.model.large.weight"] = np.full((64, 64), 1e300)
    found["base_model.model.odd.weight"] = np.full((64, 64), np.inf, np.float32)
    found["base_model.model.count"] = np.arange(5000)
    found["base_model.model.tiny"] = np.ones(7, np.float32)
    found["base_model.model.wide.weight"] = draw((100, 1000)).astype(np.float32)
    save_file(found, tmp_path / "adapter.safetensors")
    return found


@compiled_only
def test_together_is_as_alone(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Moments, digests, samples and the pairs' sizes are equal, in whatever batches."""
    checkpoint = open_checkpoint(tmp_path / "adapter.safetensors")
    numbers, sizes = [], []
    for room_bytes in (0, ROOM_BYTES, 8 * ROOM_BYTES):
        batches = list(in_batches(checkpoint.tensors, room_bytes))
        products = Products(find_pairs(checkpoint.tensors))
        ticked: list[int] = []
        with MemberFiles(checkpoint) as files:
            reader = TensorReader(
                files,
                digest=True,
                tick=ticked.append,
                depth="whole",
                products=products,
                batches=batches,
            )
            found = {tensor.name: reader.read(tensor) for tensor in checkpoint.tensors}
            moments = {name: one for name, (one, _, _) in found.items()}
            sizes.append(products.sizes(moments, files.open))
        assert sum(ticked) == sum(tensor.nbytes for tensor in tensors.values())
        # As text: what is not known to be a number equals nothing.
        numbers.append({name: repr(one) for name, one in found.items()})

    assert numbers[0].keys() == tensors.keys()
    assert numbers[1] == numbers[0]
    assert numbers[2] == numbers[0]
    assert sizes[1] == sizes[0]
    assert sizes[2] == sizes[0]
    assert len(sizes[0]) == 12


@compiled_only
def test_neighbours_go_together(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Every tensor is in one batch, in order; a batch has no gap and fits into the room."""
    checkpoint = open_checkpoint(tmp_path / "adapter.safetensors")

    batches = list(in_batches(checkpoint.tensors, ROOM_BYTES))

    assert [tensor for batch in batches for tensor in batch] == list(checkpoint.tensors)
    assert len(batches) < len(tensors)
    for batch in batches:
        ends = [tensor.offset + tensor.size_bytes for tensor in batch]
        assert [tensor.offset for tensor in batch[1:]] == ends[:-1]
        assert len(batch) == 1 or ends[-1] - batch[0].offset <= ROOM_BYTES
        alone = {"base_model.model.count", "base_model.model.tiny"}
        assert len(batch) == 1 or not alone & {tensor.name for tensor in batch}


@compiled_only
@pytest.mark.parametrize(
    "run",
    [Run("F32", 8, 96), Run("F32", -4, 8), Run("F64", 0, 8, rank=257), Run("F64", 0, -8)],
)
def test_what_lies_outside_is_refused(run: Run) -> None:
    """The library is told of no byte that is not there, and of no matrix it has no room for."""
    with pytest.raises(ValueError, match="cannot be read from 100 bytes"):
        compiled.tally_batch(np.zeros(100, np.uint8), [Run("F32", 0, 100), run])
