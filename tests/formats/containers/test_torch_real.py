"""What torch itself saves, both ways: names, shapes, dtypes and values as torch reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sentinel.checkpoint import Tensor
from sentinel.formats.containers.torch_file import read_torch_file

pytestmark = pytest.mark.trainer

torch = pytest.importorskip("torch")

DTYPES = {
    "F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
    "C64": "complex64", "C128": "complex128", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip


def samples() -> dict[str, object]:
    draw = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 2, (12, 16), generator=draw, dtype=torch.uint8)
    found = {name: raw.clone().view(getattr(torch, of)) for name, of in DTYPES.items()}
    base = torch.arange(24.0)
    return found | {
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "transposed": base.reshape(4, 6).T,
        "a slice": base.reshape(4, 6)[1:3, 2:5],
        "expanded": base[:1].expand(5),
        "shared": base[6:12],
        "channels last": torch.arange(24.0)
        .reshape(1, 2, 3, 4)
        .to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(base[:4].clone()),
    }


def values(path: Path, found: Tensor) -> bytes:
    """The elements of a tensor in the order of its shape, from where the reader says they lie."""
    raw = path.read_bytes()[found.offset : found.offset + found.size_bytes]
    if found.strides is None:
        return raw
    span = 1 + sum((n - 1) * s for n, s in zip(found.shape, found.strides, strict=True))
    at = np.zeros(found.shape, int)
    for axis, stride in enumerate(found.strides):
        at += np.indices(found.shape)[axis] * stride
    return np.frombuffer(raw, f"V{len(raw) // span}")[at].tobytes()


@pytest.mark.parametrize("as_zip", [True, False])
def test_every_tensor_is_where_torch_put_it(tmp_path, as_zip):
    """Bit by bit, also for views: transposed, sliced, expanded, sharing one storage."""
    path = tmp_path / "x.pt"
    torch.save(samples(), path, _use_new_zipfile_serialization=as_zip)
    # In its old format torch writes the newer dtypes and cannot read them back.
    expected = torch.load(path, weights_only=False) if as_zip else samples()

    found = {one.name: one for one in read_torch_file(path).tensors}

    assert list(found) == list(expected)
    for name, one in found.items():
        tensor = expected[name].detach()
        assert one.shape == tuple(tensor.shape), name
        if tensor.numel():
            data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            assert values(path, one) == data, name
        assert one.is_dense == (name not in {"a slice", "expanded"}), name
        assert one.dtype == (name if name in DTYPES else "F32")


@pytest.mark.parametrize("as_zip", [True, False])
def test_the_tree_keeps_what_is_no_tensor(tmp_path, as_zip):
    value = {
        "epoch": 3, "lr": 1e-4, "names": ["a", ("b", None)], "size": torch.Size([2, 3]),
        "rng": np.random.RandomState(0).get_state(), "np": np.float64(0.5), "half": np.float16(2),
        "dtype": torch.float16, "device": torch.device("cpu"), 7: True,
    }  # fmt: skip
    path = tmp_path / "x.pt"
    torch.save(value, path, _use_new_zipfile_serialization=as_zip)

    tree = read_torch_file(path).tree

    assert isinstance(tree, dict)
    same = ("epoch", "lr", "names", "np", "half", 7)
    assert {key: tree[key] for key in same} == {key: value[key] for key in same}
    assert tree["size"] == (2, 3)
    assert str(tree["dtype"]) == "torch.float16"


def test_sparse_and_quantised_tensors_are_no_surprise(tmp_path):
    """Their parts are found; what cannot be looked into stays a node."""
    path = tmp_path / "x.pt"
    torch.save({"s": torch.eye(3).to_sparse(), "m": torch.ones(2, device="meta")}, path)
    assert {one.dtype for one in read_torch_file(path).tensors} == {"I64", "F32"}


def test_a_large_file_is_read_by_its_description_alone(tmp_path):
    """Values are never read: a file of many megabytes costs no more memory than its pickle."""
    import tracemalloc  # noqa: PLC0415

    path = tmp_path / "x.pt"
    torch.save({"w": torch.zeros(8 << 20)}, path)
    tracemalloc.start()
    read_torch_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


def test_training_arguments_of_transformers_are_harmless(tmp_path):
    """`training_args.bin` is a pickle of classes and enums; a checkpoint with it is not hostile."""
    transformers = pytest.importorskip("transformers")
    path = tmp_path / "training_args.bin"
    torch.save(transformers.TrainingArguments(output_dir=str(tmp_path), report_to=[]), path)
    assert read_torch_file(path).tensors == ()
