"""A file of torch.save that was cast without torch: torch itself reads it as its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.errors import RepairError
from sentinel.formats.containers.torch_file import read_torch_file
from sentinel.receipt import NewFile
from sentinel.repairs.files.torch_archive import TorchArchive, loss_of, storages_to_cast

torch = pytest.importorskip("torch")

TORCH = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}


def recast(path: Path, after: str, keep: tuple[str, ...] = ()) -> Path:
    """Cast every floating tensor of a file but those whose last name is in `keep`."""
    found = read_torch_file(path).tensors
    stays = [t for t in found if t.dtype not in TORCH or t.name.rpartition(".")[2] in keep]
    chosen = [tensor for tensor in found if tensor not in stays]
    storages = storages_to_cast(path, chosen, stays, after)
    new = NewFile(path.name, path.name, "cast", path.stat().st_size)
    target = path.with_name(f"new-{path.name}")
    with target.open("w+b") as out:
        TorchArchive(new, storages).write(path.parent, out, {})
    return target


def leaves(value: object, at: tuple = ()) -> dict[tuple, object]:
    if isinstance(value, dict):
        return {k: v for key, one in value.items() for k, v in leaves(one, (*at, key)).items()}
    if isinstance(value, list | tuple):
        return {k: v for i, one in enumerate(value) for k, v in leaves(one, (*at, i)).items()}
    return {at: value}


def assert_cast(before: Path, after: Path, dtype: str, keep: tuple[str, ...] = ()) -> int:
    """Everything is as it was, but floats are what `.to` makes of them; returns how many."""
    old = leaves(torch.load(before, weights_only=True))
    new = leaves(torch.load(after, weights_only=True))
    count = 0
    assert old.keys() == new.keys()
    for key, value in old.items():
        if not torch.is_tensor(value):
            assert new[key] == value
            continue
        is_cast = value.is_floating_point() and key[-1] not in keep
        expected = value.to(TORCH[dtype]) if is_cast else value
        assert (new[key].dtype, new[key].shape) == (expected.dtype, expected.shape)
        assert new[key].stride() == expected.stride()
        assert torch.equal(
            new[key].view(-1).view(torch.uint8)
            if expected.is_contiguous()
            else new[key].contiguous().view(-1).view(torch.uint8),
            expected.contiguous().view(-1).view(torch.uint8),
        )
        count += is_cast
    return count


@pytest.fixture(params=["AdamW", "SGD", "Adagrad", "Adafactor", "NAdam", "RMSprop"])
def state(request, tmp_path) -> Path:
    """The state of one of torch's optimizers after three steps on parameters of two dtypes."""
    torch.manual_seed(0)
    shapes = [(3, 5), (7,), (), (4, 2, 2)]
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    parameters.append(torch.nn.Parameter(torch.randn(6, dtype=torch.bfloat16)))
    options = {"momentum": 0.9} if request.param == "SGD" else {}
    optimizer = getattr(torch.optim, request.param)(parameters, lr=1e-2, **options)
    for _ in range(3):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    return tmp_path / "optimizer.pt"


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16", "F64"])
def test_moments_are_cast_as_torch_casts_them(state, dtype):
    """Every moment is bit for bit `.to`; steps, settings, shapes and strides stay."""
    new = recast(state, dtype, keep=("step",))

    assert assert_cast(state, new, dtype, keep=("step",)) >= 4
    torch.load(new, weights_only=True, mmap=True)
    names = [(one.name, one.shape, one.strides) for one in read_torch_file(state).tensors]
    assert [(one.name, one.shape, one.strides) for one in read_torch_file(new).tensors] == names


def test_views_of_one_storage_stay_views(tmp_path):
    """Two tensors on the same bytes, a transposed one, an empty one, a number, one of integers."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 7
    value = {
        "a": base,
        "b": base[1:3],
        "c": base.t(),
        "empty": torch.empty(0),
        "ids": torch.arange(3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "n": 3,
    }
    torch.save(value, tmp_path / "x.pt")

    new = recast(tmp_path / "x.pt", "F16")

    assert assert_cast(tmp_path / "x.pt", new, "F16") == 5
    loaded = torch.load(new, weights_only=True)
    assert loaded["a"].untyped_storage().data_ptr() == loaded["b"].untyped_storage().data_ptr()


def test_what_would_be_lost_is_counted_and_named(tmp_path):
    """The second moment of a small gradient is nothing in fp16."""
    tensors = {"m": torch.tensor([1.0, 70000.0]), "v": torch.tensor([1e-9, 1e-3, 0.0])}
    torch.save(tensors, tmp_path / "x.pt")
    found = read_torch_file(tmp_path / "x.pt").tensors

    loss = loss_of(tmp_path / "x.pt", storages_to_cast(tmp_path / "x.pt", found, (), "F16"))

    assert (loss.value_count, loss.overflow_count, loss.underflow_count) == (5, 1, 1)
    assert (loss.first_overflow, loss.first_underflow) == ("m", "v")


@pytest.mark.parametrize("how", ["legacy", "protocol", "shared"])
def test_what_cannot_be_cast_safely_is_refused(tmp_path, how):
    """A file of the older kind, another pickle protocol, bytes that two kinds of tensors share."""
    path = tmp_path / "x.pt"
    base = torch.ones(4)
    if how == "legacy":
        torch.save({"a": base}, path, _use_new_zipfile_serialization=False)
    elif how == "protocol":
        torch.save({"a": base}, path, pickle_protocol=4)
    else:
        torch.save({"a": base, "step": base[:1]}, path)

    with pytest.raises(RepairError, match="cannot be cast"):
        recast(path, "F16", keep=("step",))
