"""What can happen to a checkpoint that was written well: one function a fault.

Each is given the checkpoint's directory, or its one file, and changes what lies there.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Damage = Callable[[Path], None]

_HEADER_LENGTH = 8


def _file(path: Path, name: str) -> Path:
    return path / name if path.is_dir() else path


def cut(name: str = "", *, keep: float = 0.5) -> Damage:
    """The write stopped: only the beginning is there."""

    def apply(path: Path) -> None:
        file = _file(path, name)
        os.truncate(file, int(file.stat().st_size * keep))

    return apply


def cut_to_nothing(name: str = "") -> Damage:
    """The file was created and nothing was written."""
    return cut(name, keep=0.0)


def zero_tail(name: str = "", *, share: float = 0.4) -> Damage:
    """The file has its length, and its last blocks were lost in a crash."""

    def apply(path: Path) -> None:
        file = _file(path, name)
        size = file.stat().st_size
        # Not where a value or a row begins: a file system knows nothing of either.
        lost = int(size * share) // 4 * 4 + 2
        with file.open("r+b") as opened:
            opened.seek(size - lost)
            opened.write(bytes(lost))

    return apply


def zeros_from_the_start(name: str = "") -> Damage:
    """The file was laid out in full length, and nothing was written into it."""

    def apply(path: Path) -> None:
        file = _file(path, name)
        file.write_bytes(bytes(file.stat().st_size))

    return apply


def zeros_behind_the_header(name: str = "") -> Damage:
    """The header is written, all values are still zero."""

    def apply(path: Path) -> None:
        file = _file(path, name)
        raw = file.read_bytes()
        end = _HEADER_LENGTH + int.from_bytes(raw[:_HEADER_LENGTH], "little")
        file.write_bytes(raw[:end] + bytes(len(raw) - end))

    return apply


def more_behind(name: str = "") -> Damage:
    """Bytes of something else follow."""

    def apply(path: Path) -> None:
        with _file(path, name).open("ab") as opened:
            opened.write(b"more")

    return apply


def value(name: str, key: str, number: float) -> Damage:
    """One value of each tensor whose key ends so is another."""

    def change(tensors: dict[str, Any]) -> None:
        for found, tensor in tensors.items():
            if found.endswith(key):
                tensor.view(-1)[0] = number

    return rewritten(name, change)


def cast(name: str, key: str, dtype: str) -> Damage:
    """The tensors whose key ends so were cast."""

    def change(tensors: dict[str, Any]) -> None:
        torch = importlib.import_module("torch")
        for found, tensor in tensors.items():
            if found.endswith(key):
                tensors[found] = tensor.to(getattr(torch, dtype))

    return rewritten(name, change)


def set_to_zero(name: str, key: str) -> Damage:
    """All values of the tensors whose key holds this are zero."""

    def change(tensors: dict[str, Any]) -> None:
        for found, tensor in tensors.items():
            if key in found:
                tensor.zero_()

    return rewritten(name, change)


def emptied(name: str) -> Damage:
    """Each tensor is the empty placeholder that ZeRO-3 leaves on a rank."""

    def change(tensors: dict[str, Any]) -> None:
        torch = importlib.import_module("torch")
        for found in tensors:
            tensors[found] = torch.empty(0)

    return rewritten(name, change)


def without_tensors(name: str) -> Damage:
    """Nothing was selected when it was saved: the well-known 40 bytes."""
    return rewritten(name, dict.clear)


def rewritten(name: str, change: Callable[[dict[str, Any]], None]) -> Damage:
    """Load with the official library, change, save again with the metadata as it was."""

    def apply(path: Path) -> None:
        safetensors = importlib.import_module("safetensors")
        save_file = importlib.import_module("safetensors.torch").save_file
        file = _file(path, name)
        with safetensors.safe_open(file, "pt") as opened:
            metadata = opened.metadata()
            tensors = {key: opened.get_tensor(key).clone() for key in opened.keys()}  # noqa: SIM118
        change(tensors)
        save_file(tensors, file, metadata)

    return apply


def header(name: str, change: Callable[[str], str]) -> Damage:
    """The header's text is another; the values stay."""

    def apply(path: Path) -> None:
        file = _file(path, name)
        raw = file.read_bytes()
        end = _HEADER_LENGTH + int.from_bytes(raw[:_HEADER_LENGTH], "little")
        text = change(raw[_HEADER_LENGTH:end].decode()).encode()
        file.write_bytes(len(text).to_bytes(_HEADER_LENGTH, "little") + text + raw[end:])

    return apply


def first_key_twice(text: str) -> str:
    """Name the second tensor like the first."""
    first, second = [key for key in json.loads(text) if key != "__metadata__"][:2]
    return text.replace(f'"{second}"', f'"{first}"')


def offsets_beyond(text: str) -> str:
    """Let the last tensor end far behind the file."""
    content = json.loads(text)
    last = max(
        (one for key, one in content.items() if key != "__metadata__"),
        key=lambda one: one["data_offsets"][1],
    )
    last["data_offsets"][1] = 2**62
    return json.dumps(content)


def overlapping(text: str) -> str:
    """Let two tensors of one shape share their bytes."""
    content = json.loads(text)
    shapes: dict[str, list[int]] = {}
    for key, one in content.items():
        if key == "__metadata__":
            continue
        same = shapes.setdefault(json.dumps([one["dtype"], one["shape"]]), one["data_offsets"])
        if same is not one["data_offsets"]:
            one["data_offsets"] = same
            break
    return json.dumps(content)


def header_length(name: str, length: int) -> Damage:
    """The length of the header is a wild number."""

    def apply(path: Path) -> None:
        with _file(path, name).open("r+b") as opened:
            opened.write(length.to_bytes(_HEADER_LENGTH, "little"))

    return apply


def replaced(name: str, content: bytes) -> Damage:
    """Something else lies under the name."""
    return lambda path: _file(path, name).write_bytes(content) and None


LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 12345\n"
)
ERROR_PAGE = b"<!DOCTYPE html><html><head><title>404</title></head><body>Not found</body></html>"


def torch_under_its_name(name: str) -> Damage:
    """A pickle under the name of a safetensors file."""

    def apply(path: Path) -> None:
        torch = importlib.import_module("torch")
        torch.save({"weight": torch.ones(2, 2)}, _file(path, name))

    return apply


class _Runs:
    """Runs a shell when it is loaded without care."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo pwned > pwned",)


def hostile(name: str, *, as_zip: bool = True, key: str = "extra") -> Damage:
    """The pickle holds, beside what it should, a call."""

    def apply(path: Path) -> None:
        torch = importlib.import_module("torch")
        file = _file(path, name)
        content = torch.load(file, weights_only=True)
        content[key] = _Runs()
        torch.save(content, file, _use_new_zipfile_serialization=as_zip)

    return apply


def optimizer_value(name: str, key: str, number: float) -> Damage:
    """One value of each parameter's state is another."""

    def apply(path: Path) -> None:
        torch = importlib.import_module("torch")
        file = _file(path, name)
        content = torch.load(file, weights_only=True)
        for state in content["state"].values():
            state[key].view(-1)[0] = number
        torch.save(content, file)

    return apply


def gone(name: str) -> Damage:
    """The file was not copied, or not yet written."""

    def apply(path: Path) -> None:
        target = path / name
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink()

    return apply


def gone_beside(name: str) -> Damage:
    """Another file of the same set was not copied."""
    return lambda path: path.with_name(name).unlink()


def locked(name: str) -> Damage:
    """The account may not read the file."""
    return lambda path: _file(path, name).chmod(0)


def described(name: str, changes: Mapping[str, object]) -> Damage:
    """Keys of a JSON file are others."""

    def apply(path: Path) -> None:
        file = path / name
        content = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps({**content, **changes}), encoding="utf-8")

    return apply


def indexed(key: str, shard: str) -> Damage:
    """The index names one more tensor."""

    def apply(path: Path) -> None:
        file = path / "model.safetensors.index.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        content["weight_map"][key] = shard
        file.write_text(json.dumps(content), encoding="utf-8")

    return apply


def link_to_itself(path: Path) -> None:
    """A link below the checkpoint leads back to it."""
    (path / "again").symlink_to(path, target_is_directory=True)
