"""A trainer's configuration as a document: read, changed in a copy, written, compared.

Fields have dotted names; a number leads into a list (`config.process.0.train.lr`).
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from sentinel.errors import RepairError
from sentinel.repairs.toml_text import toml_text

Document = dict[str, object]

FORMS: Mapping[str, str] = {".json": "JSON", ".yaml": "YAML", ".yml": "YAML", ".toml": "TOML"}
_LIMIT_BYTES = 4 * 1024 * 1024
_SECRET = re.compile(
    r"(?i)^(.*(?:token|secret|password|api_?key)[^:=\s]*[\"']?\s*[:=\s]\s*)\S.*$", re.MULTILINE
)


def read_document(path: Path) -> Document:
    """Return what a configuration file holds; raises RepairError when it cannot be changed."""
    form = FORMS.get(path.suffix.lower())
    content: object = None
    fact = "is neither JSON nor YAML nor TOML, so it cannot be changed"
    try:
        is_long = path.stat().st_size > _LIMIT_BYTES
        text = "" if is_long else path.read_text(encoding="utf-8-sig")
        if is_long:
            fact = f"is longer than {_LIMIT_BYTES} bytes"
        elif form == "JSON":
            content = json.loads(text)
        elif form == "YAML":
            content = yaml.safe_load(text)
        elif form == "TOML":
            content = tomllib.loads(text)
    except OSError as error:
        fact = f"cannot be read ({error.strerror})"
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        fact = f"is not valid {form} ({' '.join(str(error).split())[:200]})"
    else:
        if isinstance(content, dict):
            return content
        fact = f"holds no fields in {form}" if form and not is_long else fact
    raise RepairError(
        "configuration",
        where=f"'{path}'",
        fact=fact,
        todo="sentinel needs it to know what to watch and to change; or give --watch DIR",
    )


def document_text(path: Path, content: Mapping[str, object]) -> str:
    """Return a document in the form that a path's name says."""
    form = FORMS[path.suffix.lower()]
    if form == "JSON":
        return json.dumps(content, indent=4, ensure_ascii=False) + "\n"
    return _yaml_text(content) if form == "YAML" else toml_text(content)


def _yaml_text(content: Mapping[str, object]) -> str:
    """Return YAML with letters of all alphabets, escaped where PyYAML would lose one (U+0085)."""
    text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=1000)
    if yaml.safe_load(text) == content:
        return text
    return yaml.safe_dump(dict(content), sort_keys=False, width=1000)


def difference(path: Path, before: str, after: str) -> str:
    """Return a unified diff from the user's file to its changed copy, with secrets masked.

    It goes into the health log, which may be shown to others.
    """
    old, new = (
        [_SECRET.sub(r"\1***", line) for line in text.splitlines(keepends=True)]
        for text in (before, after)
    )
    return "".join(difflib.unified_diff(old, new, str(path), f"{path} (changed copy)", n=1))


def get_field(content: Document, field: str, *, sections: bool = True) -> object:
    """Return what a field holds, None when it is not there."""
    found = _holder(content, field, sections=sections)
    return None if found is None else _item(*found)


def has_field(content: Document, field: str, *, sections: bool = True) -> bool:
    """Tell whether a field is there, be it empty."""
    found = _holder(content, field, sections=sections)
    return found is not None and _has(*found)


def set_field(content: Document, field: str, value: object, *, sections: bool = True) -> None:
    """Set a field, with the parts on the way to it; None takes it away.

    Without ``sections`` it is set wherever it stands, and at the top when it stands nowhere.
    """
    found = _holder(content, field, sections=sections)
    if found is None or not _has(*found):
        if value is None:
            return
        found = _made(content, field) if sections else (content, _spelled(content, field))
    holder, key = found
    if isinstance(holder, list):
        holder[int(key)] = value
    elif value is None:
        holder.pop(key, None)
    else:
        holder[key] = value


Holder = dict[str, object] | list[object]


def _holder(content: Document, field: str, *, sections: bool) -> tuple[Holder, str] | None:
    """Return what a field lies in directly and its key there, None when a part is missing."""
    if not sections:
        return next(((part, field) for part in _parts(content) if field in part), (content, field))
    *parts, last = field.split(".")
    holder: object = content
    for part in parts:
        if not isinstance(holder, dict | list) or not _has(holder, part):
            return None
        holder = _item(holder, part)
    if not isinstance(holder, dict | list):
        return None
    return holder, _spelled(holder, last) if isinstance(holder, dict) else last


def _made(content: Document, field: str) -> tuple[Holder, str]:
    """Return what a field is to lie in, with the mappings on the way made where there are none."""
    *parts, last = field.split(".")
    holder: Holder = content
    for part in parts:
        inner = _item(holder, part)
        if not isinstance(inner, dict | list):
            inner = {}
            if isinstance(holder, list):
                holder[int(part)] = inner
            else:
                holder[_spelled(holder, part)] = inner
        holder = inner
    return holder, _spelled(holder, last) if isinstance(holder, dict) else last


def _spelled(holder: Document, key: str) -> str:
    """Return a key as the document spells its keys: with leading dashes, or without."""
    if key not in holder and any(name.startswith("--") for name in map(str, holder)):
        return f"--{key}"
    return key


def _has(holder: Holder, key: str) -> bool:
    if isinstance(holder, list):
        return key.isdigit() and int(key) < len(holder)
    return key in holder or f"--{key}" in holder


def _item(holder: Holder, key: str) -> object:
    if isinstance(holder, list):
        return holder[int(key)] if _has(holder, key) else None
    return holder.get(key, holder.get(f"--{key}"))


def _parts(content: Document) -> Iterator[Document]:
    yield content
    for part in content.values():
        if isinstance(part, dict):
            yield from _parts(part)
