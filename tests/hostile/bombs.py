"""Small files that would be large in memory, and large ones that are mostly holes."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from pickles import named, text, torch_zip

STORAGE = (
    b"(" + text("storage") + named("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x06tQ"
)
TENSOR = (
    named("torch._utils", "_rebuild_tensor_v2") + b"(" + STORAGE
    + b"K\x00K\x02K\x03\x86K\x03K\x01\x86\x89" + named("collections", "OrderedDict") + b")RtR"
)  # fmt: skip
HUGE = struct.pack("<Q", 2**63)


def laugh(levels: int = 9) -> bytes:
    """Lists of ten times the list before: a billion values in half a kilobyte."""
    raw = b"](K\x01eq\x000"
    for level in range(levels):
        raw += b"](" + (b"h" + bytes([level])) * 10 + b"eq" + bytes([level + 1]) + b"0"
    return raw + b"h" + bytes([levels])


def pickles() -> dict[str, bytes]:
    """Pickles of a few kilobytes, as the only value of a file of torch."""
    word = text("w" * 2000)
    shared = word + b"q\x01"
    many = b"h\x01" * 1000
    numbered = b"".join(b"J" + struct.pack("<i", at) + b"h\x00" for at in range(1000))
    return {
        "a laugh": laugh() + b".",
        "a laugh as a dtype of NumPy": named("numpy", "core.multiarray") + b"0"
        + named("numpy.core.multiarray", "scalar") + b"(" + named("numpy", "dtype") + b"("
        + laugh() + b"tRC\x08aaaaaaaatR.",
        "a laugh as a key's argument": b"}" + text("state") + b"}" + named("numpy", "dtype") + b"("
        + laugh() + b"tRK\x01ss" + text("param_groups") + b"]s.",
        "a laugh as a dtype of torch": named("torch._utils", "_rebuild_tensor_v3") + b"(" + STORAGE
        + b"K\x00K\x02K\x03\x86K\x03K\x01\x86\x89N" + laugh() + b"tR.",
        "one tensor under a thousand names": b"}(" + text("x") + TENSOR + b"q\x00"
        + numbered + b"u.",
        "one long name for a thousand tensors": b"}" + shared + b"}(" + text("x") + TENSOR
        + b"q\x00" + numbered + b"us.",
        "long names in long names": (b"}" + word) * 30 + TENSOR + b"s" * 30 + b".",
        "a thousand times a long text": b"](" + shared + many + b"e.",
        "settings of long texts": b"}(" + text("pytorch-lightning_version") + text("2.6")
        + text("hyper_parameters") + b"}" + text("a") + b"](" + shared + many + b"esu.",
        "a text of 2**63": b"\x8d" + HUGE + b".",
        "bytes of 2**63": b"\x8e" + HUGE + b".",
        "a bytearray of 2**63": b"\x96" + HUGE + b".",
        "a number of 2**31 bytes": b"\x8b\xff\xff\xff\x7f.",
        "a place of 2**32": b"Nr\xff\xff\xff\xff.",
        "a million marks": b"(" * 9000 + b".",
    }  # fmt: skip


def metadata_of_chunks() -> bytes:
    """A distributed checkpoint whose file name is a laugh."""
    package = "torch.distributed.checkpoint."
    index = (
        named(package + "metadata", "MetadataIndex") + b")\x81}" + text("fqn") + text("w") + b"sb"
    )
    place = named(package + "filesystem", "_StorageInfo") + b")\x81}" + text("relative_path")
    fields = text("state_dict_metadata") + b"}" + text("storage_data") + b"}"
    fields += index + place + laugh() + b"sbs"
    return b"\x80\x02" + named(package + "metadata", "Metadata") + b")\x81}(" + fields + b"ub."


def header(entries: dict[str, object], data_bytes: int = 0) -> bytes:
    raw = json.dumps(entries).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(data_bytes)


def small_files() -> Iterator[tuple[str, str, bytes]]:
    """What it is, the name of its file, and its few kilobytes."""
    for what, raw in pickles().items():
        zipped = torch_zip({"a/data.pkl": b"\x80\x02" + raw, "a/data/0": bytes(24)})
        yield f"torch: {what}", "x.pt", zipped
        yield f"optimizer: {what}", "optimizer.bin", zipped
    for what, count in (("tensors", 2**63), ("tensors", 2**17), ("tensors", 2**64 - 1)):
        head = b"GGUF" + struct.pack("<IQQ", 3, count, 0)
        yield f"gguf: {count} {what}", "x.gguf", head + bytes(4000)
    array = struct.pack("<Q", 1) + b"a" + struct.pack("<IIQ", 9, 9, 2**32)
    yield "gguf: arrays in arrays", "x.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + array
    claim = {"dtype": "F32", "shape": [2**62], "data_offsets": [0, 2**63 - 1]}
    yield "safetensors: a claim", "x.safetensors", header({"w": claim}, 4)
    axes = {"dtype": "U8", "shape": [1] * 1000, "data_offsets": [0, 1]}
    yield "safetensors: a thousand axes", "x.safetensors", header({"w": axes}, 1)
    yield "safetensors: a header of 2**63", "x.safetensors", HUGE + b"{}"
    numpy = b"{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775807,), }\n"
    yield "npy: a claim", "x.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(numpy)) + numpy
    nested = b"[" * 5000 + b"]" * 5000
    yield (
        "json: nested",
        "sentinel_manifest.json",
        b'{"schema":1,"step":1,"recipe":' + nested + b"}",
    )


def sparse(path: Path, entries: dict[str, tuple[str, list[int], int]]) -> Path:
    """A safetensors file of holes: dtype, shape and bytes of each tensor."""
    described, at = {}, 0
    for name, (dtype, shape, size_bytes) in entries.items():
        offsets = [at, at + size_bytes]
        described[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        at += size_bytes
    raw = json.dumps(described).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + at)
    return path


def absurd_adapters(root: Path) -> Iterator[Path]:
    """Adapters whose shapes would make a careless product as large as one likes."""
    million = 2**20

    def pair(name: str, up: list[int], down: list[int], count: int) -> Path:
        tensors = {
            "lora_unet_q.lora_up.weight": ("F8_E4M3", up, count),
            "lora_unet_q.lora_down.weight": ("F8_E4M3", down, count),
        }
        return sparse(root / name, tensors)

    yield pair("rank.safetensors", [8, 16 * million], [16 * million, 8], 128 * million)
    yield pair("wide.safetensors", [128 * million, 1], [1, 128 * million], 128 * million)
    yield pair("kernel.safetensors", [128 * million, 1], [1, 1, 128 * million], 128 * million)
    yield pair("largest.safetensors", [8192, 2048], [2048, 8192], 16 * million)
    hra = {"base_model.model.q.hra_u": ("F8_E4M3", [2, 64 * million], 128 * million)}
    yield sparse(root / "hra.safetensors", hra)
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    shapes = ([8 * million, 8], [8, 8 * million]) * 2
    loha = {
        f"lora_unet_q.{name}": ("F8_E4M3", list(shape), 64 * million)
        for name, shape in zip(names, shapes, strict=True)
    }
    yield sparse(root / "loha.safetensors", loha)
