"""Everything that reads a stranger's bytes, each with small files to begin from.

A target takes bytes, puts them where they belong, and lets sentinel read that. It ends with a
value or with an InputError, whatever the bytes are. A new reader is one line in `TARGETS`.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sentinel.checkpoint import Checkpoint
from sentinel.errors import RepairError
from sentinel.flow import inspect
from sentinel.formats.base import read_base
from sentinel.formats.containers.crc32c import masked_crc32c
from sentinel.formats.containers.yaml_text import read_yaml_object
from sentinel.formats.containers.zip_directory import read_zip_directory
from sentinel.formats.files import open_regular
from sentinel.formats.logs.attempts import leading_to
from sentinel.formats.logs.files import read_event_log, read_json_log
from sentinel.formats.opening import open_checkpoint
from sentinel.repairs.files.copy import prepare_copy
from sentinel.repairs.files.keys import KeyRules
from sentinel.repairs.files.receipts import read_receipt
from sentinel.stats.table import base_table, checkpoint_table, faults_table, metrics_table

MODULE = "base_model.model.model.layers.0.self_attn.q_proj"
FLOATS = struct.pack("<6f", *range(6))
ADAPTER_CONFIG = {
    "peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_rslora": False, "bias": "none",
    "rank_pattern": {"q_proj": 2}, "alpha_pattern": {r".*\.q_proj": 8}, "init_lora_weights": True,
    "modules_to_save": ["score"], "base_model_name_or_path": "models/llama",
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """``place`` puts bytes below an empty directory, ``read`` reads what lies there."""

    seeds: Callable[[], Iterable[bytes]]
    place: Callable[[Path, bytes], Path]
    read: Callable[[Path], object]

    def run(self, root: Path, raw: bytes) -> object:
        """Read the bytes; raises nothing but InputError."""
        return self.read(self.place(root, raw))


# -- reading --


def look(path: Path) -> Checkpoint:
    """Open, measure and make the tables; a fault is a value too."""
    found = open_checkpoint(path)
    for table in (checkpoint_table, faults_table, metrics_table):
        table(found)
    return inspect(path).checkpoint


def look_at_base(path: Path) -> object:
    return base_table(read_base(path))


def look_at_zip(path: Path) -> object:
    with open_regular(path) as (file, size_bytes):
        return read_zip_directory(file, size_bytes, "file 'x.zip'")


def look_at_gguf_base(path: Path) -> object:
    look(path)
    return look_at_base(path)


def look_at_log(path: Path) -> object:
    """The log beside a checkpoint: whatever is wrong with it, nothing is said."""
    log = read_json_log(path) if path.suffix == ".jsonl" else read_event_log(path)
    return leading_to([log], 5, path.stat().st_mtime) if log is not None else ()


def mend(path: Path) -> object:
    """Copy with everything changed that can be, and look at the copy; a refusal is a value too."""
    with tempfile.TemporaryDirectory() as where:
        try:
            receipt = prepare_copy(
                open_checkpoint(path),
                Path(where) / path.name,
                cast="bf16",
                optimizer="cast",
                rename=KeyRules(auto=True),
                allow_loss=True,
            )
        except RepairError as error:
            return str(error)
        copy = look(receipt.plan.target)
        assert not copy.faults, copy.faults
        return copy


def look_at_receipt(path: Path) -> object:
    try:
        return read_receipt(path)
    except RepairError as error:
        return str(error)


# -- placing --


def as_file(name: str) -> Callable[[Path, bytes], Path]:
    def place(root: Path, raw: bytes) -> Path:
        (root / name).write_bytes(raw)
        return root / name

    return place


def as_header(root: Path, raw: bytes) -> Path:
    """The text of a safetensors header; its length and 80 bytes of data are added."""
    (root / "x.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(range(80)))
    return root / "x.safetensors"


def as_metadata(root: Path, raw: bytes) -> Path:
    """One value of a header's metadata, under every name that is looked into."""
    text = raw.decode("utf-8", "replace")
    names = ("ss_network_args", "lora_adapter_metadata", "ot_config", "training_info", "ss_steps")
    header: dict[str, object] = {"__metadata__": dict.fromkeys(names, text)}
    for at, side in enumerate(("lora_up", "lora_down")):
        offsets = [at * 24, at * 24 + 24]
        shape = [6, 1] if side == "lora_up" else [1, 6]
        entry = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        header[f"lora_unet_q.{side}.weight"] = entry
    (root / "x.safetensors").write_bytes(with_header(header, bytes(48)))
    return root / "x.safetensors"


def as_pickle(root: Path, raw: bytes) -> Path:
    """The pickle of a file of torch, with one storage beside it."""
    files = {"a/data.pkl": raw, "a/byteorder": b"little", "a/data/0": FLOATS}
    (root / "optimizer.pt").write_bytes(zipped(files))
    return root / "optimizer.pt"


def as_optimizer(root: Path, raw: bytes) -> Path:
    as_pickle(root, raw)
    return as_part("trainer_state.json")(root, b'{"global_step": 5, "log_history": []}')


def as_part(name: str) -> Callable[[Path, bytes], Path]:
    """A file of a whole adapter, which lies in a checkpoint's directory."""

    def place(root: Path, raw: bytes) -> Path:
        (root / "adapter_model.safetensors").write_bytes(next(iter(safetensors())))
        (root / "adapter_config.json").write_bytes(json.dumps(ADAPTER_CONFIG).encode())
        (root / name).write_bytes(raw)
        return root

    return place


def as_pickled_adapter(root: Path, raw: bytes) -> Path:
    """An adapter whose weights lie in a pickle alone."""
    (root / "adapter_config.json").write_bytes(json.dumps(ADAPTER_CONFIG).encode())
    (root / "adapter_model.bin").write_bytes(raw)
    return root


def as_index(root: Path, raw: bytes) -> Path:
    for number, key in ((1, "a"), (2, "b")):
        name = f"model-{number:05d}-of-00002.safetensors"
        (root / name).write_bytes(with_header({key: entry("F32", [6], 0)}, FLOATS))
    (root / "config.json").write_bytes(b"{}")
    (root / "model.safetensors.index.json").write_bytes(raw)
    return root


def as_base(root: Path, raw: bytes) -> Path:
    state = b'{"shape": [4, 10], "quant_type": "nf4"}'.ljust(60)
    (root / "config.json").write_bytes(b'{"torch_dtype": "bfloat16"}')
    file = struct.pack("<Q", len(raw)) + raw + bytes(20) + state
    (root / "model.safetensors").write_bytes(file)
    return root


def as_base_config(root: Path, raw: bytes) -> Path:
    as_base(root, next(iter(packed_headers())))
    (root / "config.json").write_bytes(raw)
    return root


def as_described(root: Path, raw: bytes) -> Path:
    """The `.metadata` of a distributed checkpoint, over one file with one chunk in it."""
    (root / "__0_0.distcp").write_bytes(item())
    (root / ".metadata").write_bytes(raw)
    return root


def as_chunk(root: Path, raw: bytes) -> Path:
    """The one file with chunks of a distributed checkpoint."""
    as_described(root, next(iter(descriptions())))
    (root / "__0_0.distcp").write_bytes(raw)
    return root


def as_event(root: Path, raw: bytes) -> Path:
    """One record of a TensorBoard file, with its checksums."""
    length = struct.pack("<Q", len(raw))
    sums = [struct.pack("<I", masked_crc32c(part)) for part in (length, raw)]
    path = root / "events.out.tfevents.1700000000.x"
    path.write_bytes(length + sums[0] + raw + sums[1])
    return path


def as_array(root: Path, raw: bytes) -> Path:
    """The header of a NumPy array, with its length and some data."""
    file = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(raw) & 0xFFFF) + raw[:0xFFFF] + FLOATS
    (root / "x.npy").write_bytes(file)
    return root / "x.npy"


# -- seeds --


def entry(dtype: str, shape: list[int], begin: int, *, bits: int = 32) -> dict[str, object]:
    size = int(np.prod(shape)) * bits // 8
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, begin + size]}


def with_header(header: dict[str, object], data: bytes) -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def headers() -> Iterable[bytes]:
    """Headers over 80 bytes of data: PEFT's names, kohya's, and other dtypes."""
    peft = {
        f"{MODULE}.lora_A.weight": entry("F32", [2, 6], 0),
        f"{MODULE}.lora_B.weight": entry("F32", [4, 2], 48),
    }
    yield json.dumps(peft).encode()
    kohya = {
        "__metadata__": {"ss_steps": "5", "ss_network_module": "networks.lora", "ss_epoch": "1"},
        "lora_unet_q.lora_down.weight": entry("F16", [2, 12], 0, bits=16),
        "lora_unet_q.lora_up.weight": entry("BF16", [7, 2], 48, bits=16),
        "lora_unet_q.alpha": entry("F32", [], 76),
    }
    yield json.dumps(kohya).encode()
    loha = {
        "lora_unet_q.hada_w1_a": entry("F8_E4M3", [5, 4], 0, bits=8),
        "lora_unet_q.hada_w1_b": entry("F8_E5M2", [4, 5], 20, bits=8),
        "lora_unet_q.hada_w2_a": entry("F4", [5, 8], 40, bits=4),
        "lora_unet_q.hada_w2_b": entry("I8", [4, 5], 60, bits=8),
        "empty": entry("I64", [0, 3], 80, bits=64),
    }
    yield json.dumps(loha).encode()


def packed_headers() -> Iterable[bytes]:
    """Bases in four bits and eight, as far as their headers tell."""
    state = "m.q.weight.quant_state.bitsandbytes__nf4"
    yield json.dumps(
        {"m.q.weight": entry("U8", [20, 1], 0, bits=8), state: entry("U8", [60], 20, bits=8)}
    ).encode()
    yield json.dumps(
        {
            "m.q.qweight": entry("I32", [1, 8], 0),
            "m.q.scales": entry("F16", [1, 8], 32, bits=16),
            "m.q.g_idx": entry("I32", [8], 48),
        }
    ).encode()
    yield json.dumps(
        {
            "m.q.weight_packed": entry("I32", [4, 2], 0),
            "m.q.weight_shape": entry("I64", [2], 32, bits=64),
            "m.q.weight_scale": entry("F16", [4, 4], 48, bits=16),
        }
    ).encode()
    yield json.dumps(
        {"m.q.W_q": entry("U8", [48], 0, bits=8), "m.q.shape": entry("I64", [4], 48, bits=64)}
    ).encode()


def safetensors() -> Iterable[bytes]:
    for header in headers():
        yield struct.pack("<Q", len(header)) + header + bytes(range(80))


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def tensor_pickle(kind: str = "FloatStorage", numel: int = 6) -> bytes:
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text("0") + text("cpu")
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K" + bytes([numel]) + b"tQK\x00"
        b"K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtR"
    )


def pickles() -> Iterable[bytes]:
    """What trainers save: weights, an optimizer, settings, random states."""
    one = tensor_pickle()
    yield b"\x80\x02}(" + text("w") + one + text("alpha") + b"G" + struct.pack(">d", 1.5) + b"u."
    moments = b"}(" + text("step") + b"K\x05" + text("exp_avg") + one
    moments += text("exp_avg_sq") + one + b"u"
    group = b"}(" + text("lr") + b"G" + struct.pack(">d", 1e-4) + text("betas")
    group += b"K\x00K\x01\x86" + text("params") + b"](K\x00eu"
    yield (
        b"\x80\x02}(" + text("state") + b"}K\x00" + moments + b"s"
        + text("param_groups") + b"](" + group + b"eu."
    )  # fmt: skip
    arguments = (
        b"ctransformers.training_args\nTrainingArguments\n)\x81}" + text("seed") + b"K\x07sb."
    )
    yield b"\x80\x02" + arguments
    for protocol in range(6):
        yield pickle.dumps(
            {"a": [1, 2.5, "x", b"y", None, True], "b": {3: (1 << 40, {4})}}, protocol
        )


def streams() -> Iterable[bytes]:
    """Files of torch before 1.6."""
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    head += pickle.dumps({"little_endian": True}, 2)
    tail = pickle.dumps(["0"], 2) + struct.pack("<q", 6) + FLOATS
    yield head + next(iter(pickles())) + tail


def receipts() -> Iterable[bytes]:
    """What a repair of one file in a directory notes."""
    digest = "0" * 64
    told = {
        "schema": 1, "source": "/runs/a", "target": "/runs/a-repaired", "is_directory": True,
        "files": {"a/b.bin": {"from": "a/b.bin", "how": "copied", "sha256": digest}},
        "originals": {"a/b.bin": digest}, "made_directories": ["/runs"],
    }  # fmt: skip
    yield json.dumps(told).encode()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def archives() -> Iterable[bytes]:
    for raw in list(pickles())[:3]:
        yield zipped({"a/data.pkl": raw, "a/byteorder": b"little", "a/data/0": FLOATS})


def arrays() -> Iterable[bytes]:
    for array in (np.arange(6.0).reshape(2, 3), np.asfortranarray(np.ones((2, 3), ">f4"))):
        file = io.BytesIO()
        np.save(file, array)
        yield file.getvalue()


def array_archives() -> Iterable[bytes]:
    yield zipped({f"{at}.npy": raw for at, raw in enumerate(arrays())})


def array_headers() -> Iterable[bytes]:
    yield b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n"
    yield b'{"shape": (6,), "fortran_order": True, "descr": "|i1"}'


def item() -> bytes:
    return zipped(
        {"archive/data.pkl": b"\x80\x02" + tensor_pickle() + b".", "archive/data/0": FLOATS}
    )


def items() -> Iterable[bytes]:
    yield item()


def descriptions() -> Iterable[bytes]:
    """What torch writes as `.metadata`: a tensor of one chunk, and where it lies."""
    package = "torch.distributed.checkpoint."

    def made(kind: str, fields: bytes) -> bytes:
        module, name = (package + kind).rsplit(".", 1)
        return f"c{module}\n{name}\n".encode() + b")\x81}(" + fields + b"ub"

    size = b"ctorch\nSize\nK\x02K\x03\x86\x85R"
    begin = b"ctorch\nSize\nK\x00K\x00\x86\x85R"
    chunk = made("metadata.ChunkStorageMetadata", text("offsets") + begin + text("sizes") + size)
    properties = made("metadata.TensorProperties", text("dtype") + b"ctorch\nfloat32\n")
    tensor = made(
        "metadata.TensorStorageMetadata",
        text("properties") + properties + text("size") + size
        + text("chunks") + b"](" + chunk + b"e",
    )  # fmt: skip
    index = made("metadata.MetadataIndex", text("fqn") + text("w") + text("offset") + begin)
    place = made(
        "filesystem._StorageInfo",
        text("relative_path") + text("__0_0.distcp") + text("offset") + b"K\x00"
        + text("length") + b"M" + struct.pack("<H", len(item())),
    )  # fmt: skip
    yield b"\x80\x02" + made(
        "metadata.Metadata",
        text("state_dict_metadata") + b"}" + text("w") + tensor + b"s"
        + text("storage_data") + b"}" + index + place + b"s" + text("planner_data") + b"N",
    ) + b"."  # fmt: skip


def ggufs() -> Iterable[bytes]:
    """Two tensors of llama.cpp's, one in blocks, and metadata of every kind."""

    def word(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    metadata = [
        word("general.architecture") + struct.pack("<I", 8) + word("llama"),
        word("general.alignment") + struct.pack("<II", 4, 32),
        word("tokens") + struct.pack("<IIQ", 9, 8, 2) + word("a") + word("b"),
        word("flags") + struct.pack("<IIQ", 9, 7, 3) + b"\x01\x00\x01",
        word("scale") + struct.pack("<Id", 12, 0.5),
    ]
    tensors = [
        word("token_embd.weight") + struct.pack("<IQQIQ", 2, 32, 2, 8, 0),
        word("output_norm.weight") + struct.pack("<IQIQ", 1, 4, 0, 96),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(metadata) + b"".join(tensors)
    yield head + bytes(-len(head) % 32) + bytes(range(96)) + bytes(16)


def events() -> Iterable[bytes]:
    """A TensorBoard file of one record: step 5, a loss."""
    value = b"\x0a\x04loss\x15" + struct.pack("<f", 2.5)
    summary = b"\x0a" + bytes([len(value)]) + value
    event = b"\x09" + struct.pack("<d", 1.7e9) + b"\x10\x05\x2a" + bytes([len(summary)]) + summary
    yield event


def texts(*contents: object) -> Callable[[], Iterable[bytes]]:
    return lambda: (json.dumps(content).encode() for content in contents)


LOG = [{"step": 1, "loss": 2.0, "learning_rate": 1e-4}, {"step": 5, "grad_norm": 1.0}]
BACKUP = {
    "peft_type": "LORA", "lora_rank": 2, "lora_alpha": 1.0, "learning_rate": 1e-4,
    "learning_rate_warmup_steps": 2, "gradient_accumulation_steps": 1, "train_dtype": "FLOAT_16",
    "optimizer": {"optimizer": "ADAFACTOR", "scale_parameter": False, "eps": [1e-30, 1e-3]},
    "unet": {"weight_dtype": "NFLOAT_4"},
}  # fmt: skip
YAML = b"process:\n- type: x\n  network: {type: lora, linear: 4, alpha: 0x10}\n  lr: 1.0e-4\n"
QUANTIZED = {
    "quant_method": "gptq",
    "bits": 4,
    "config_groups": {"g": {"weights": {"num_bits": 4}}},
}

TARGETS: dict[str, Target] = {
    "safetensors": Target(safetensors, as_file("x.safetensors"), look),
    "safetensors-header": Target(headers, as_header, look),
    "safetensors-metadata": Target(texts(BACKUP, {"t.r": 2, "t.alpha": 3}, 5), as_metadata, look),
    "torch-zip": Target(archives, as_file("x.pt"), look),
    "torch-legacy": Target(streams, as_file("x.bin"), look),
    "torch-pickle": Target(pickles, as_pickle, look),
    "optimizer": Target(pickles, as_optimizer, look),
    "repaired-header": Target(headers, as_header, mend),
    "repaired-archive": Target(archives, as_pickled_adapter, mend),
    "repaired-optimizer": Target(pickles, as_optimizer, mend),
    "receipt": Target(receipts, as_file("sentinel-repair.json"), look_at_receipt),
    "zip": Target(archives, as_file("x.zip"), look_at_zip),
    "gguf": Target(ggufs, as_file("x.gguf"), look_at_gguf_base),
    "dcp-metadata": Target(descriptions, as_described, look),
    "dcp-chunk": Target(items, as_chunk, look),
    "yaml": Target(lambda: (YAML,), as_file("x.yaml"), read_yaml_object),
    "json-lines": Target(lambda: (b"\n".join(texts(*LOG)()),), as_file("x.jsonl"), look_at_log),
    "events": Target(events, as_event, look_at_log),
    "npy": Target(arrays, as_file("x.npy"), look),
    "npy-header": Target(array_headers, as_array, look),
    "npz": Target(array_archives, as_file("x.npz"), look),
    "adapter_config": Target(texts(ADAPTER_CONFIG), as_part("adapter_config.json"), look),
    "trainer_state": Target(
        texts({"global_step": 5, "epoch": 0.5, "log_history": LOG}),
        as_part("trainer_state.json"),
        look,
    ),
    "manifest": Target(
        texts(
            {"schema": 1, "step": 5, "files": {"adapter_config.json": {}}, "adapter": {"r": [2]}}
        ),
        as_part("sentinel_manifest.json"),
        look,
    ),
    "index": Target(
        texts(
            {
                "weight_map": {
                    k: f"model-0000{n}-of-00002.safetensors" for n, k in ((1, "a"), (2, "b"))
                }
            }
        ),
        as_index,
        look,
    ),
    "base": Target(packed_headers, as_base, look_at_base),
    "base-config": Target(
        texts({"torch_dtype": "float16", "quantization_config": QUANTIZED}),
        as_base_config,
        look_at_base,
    ),
}
"""By the name that `fuzz.py` takes."""
