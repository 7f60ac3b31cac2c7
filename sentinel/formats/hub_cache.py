"""The snapshot of a model in the cache of huggingface_hub: looked up, never downloaded.

`<cache>/models--<owner>--<name>/refs/<revision>` holds a commit, `snapshots/<commit>` its files as
links into `blobs`. Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache and
huggingface_hub/constants.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from sentinel.errors import InputError
from sentinel.formats.files import open_regular
from sentinel.formats.naming import is_plain_name
from sentinel.regular import is_directory

_PART = r"[A-Za-z0-9](?:[\w.-]{0,94}\w)?"
_NAME = re.compile(rf"{_PART}(?:/{_PART})?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MAIN = "main"


def cache_of(environment: Mapping[str, str], home: Path) -> Path:
    """Return where huggingface_hub keeps what it downloads, by its environment variables."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environment.get(variable):
            return Path(environment[variable])
    if environment.get("HF_HOME"):
        return Path(environment["HF_HOME"]) / "hub"
    caches = environment.get("XDG_CACHE_HOME") or home / ".cache"
    return Path(caches) / "huggingface" / "hub"


def snapshot_of(cache: Path, name: str, revision: str | None = None) -> Path | None:
    """Return a model's directory in the cache by its id on the hub, None when it is not there."""
    if not _NAME.fullmatch(name) or "--" in name or ".." in name:
        return None
    folder = cache / f"models--{name.replace('/', '--')}"
    wanted = revision or _MAIN
    commit = wanted if _COMMIT.fullmatch(wanted) else _commit(folder, wanted)
    snapshot = folder / "snapshots" / commit if commit else None
    return snapshot if snapshot is not None and is_directory(snapshot) else None


def _commit(folder: Path, revision: str) -> str | None:
    if not all(map(is_plain_name, revision.split("/"))):
        return None
    try:
        with open_regular(folder / "refs" / revision) as (file, _size_bytes):
            text = file.read(100).decode("ascii", "replace").strip()
    except InputError:
        return None
    return text if _COMMIT.fullmatch(text) else None
