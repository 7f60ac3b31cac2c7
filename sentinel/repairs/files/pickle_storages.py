"""A torch pickle whose storages get other dtypes: the classes it names for them, and nothing else.

A storage is `("storage", torch.FloatStorage, key, location, count)` as a persistent id, and every
tensor counts its offset, shape and strides in elements of it; so another class and other bytes
are all there is to another dtype. The pickler names a class once and recalls it from its memo
later; here each storage names its own. Source: `persistent_id` in torch/serialization.py.
"""

from __future__ import annotations

import pickletools
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType

from sentinel.errors import RepairError

CLASS_OF_DTYPE: Mapping[str, str] = MappingProxyType(
    {"F64": "DoubleStorage", "F32": "FloatStorage", "BF16": "BFloat16Storage", "F16": "HalfStorage"}
)

_NAMED = frozenset({"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "GLOBAL"})
_PUTS = frozenset({"BINPUT", "LONG_BINPUT", "PUT"})
_GETS = frozenset({"BINGET", "LONG_BINGET", "GET"})
_NEWER = frozenset({"MEMOIZE", "STACK_GLOBAL", "FRAME"})
_CLASS_AT, _KEY_AT, _FIELDS = 1, 2, 5


@dataclass(slots=True)
class _Item:
    """A value pushed since the last mark: its text where it has one, its bytes in the pickle."""

    text: str | None
    begin: int
    end: int
    put: int | None = None
    got: int | None = None


@dataclass(slots=True)
class _Walk:
    """What was pushed since the last mark, and what lies in the memo: texts and classes alone.

    ``unset`` are places in the memo that are no longer filled, ``recalled`` by where it is done
    which places are asked for.
    """

    subject: str
    items: list[_Item] = field(default_factory=list)
    is_closed: bool = False
    memo: dict[int, str | None] = field(default_factory=dict)
    unset: set[int] = field(default_factory=set)
    recalled: dict[int, int] = field(default_factory=dict)
    edits: list[tuple[int, int, bytes]] = field(default_factory=list)


def retyped(pickled: bytes, dtypes: Mapping[str, str], subject: str) -> bytes:
    """Return a pickle whose storages of these keys have these dtypes.

    ``subject`` names the file in messages. Raises RepairError for a pickle that is not built as
    torch's own (protocol 2) is, or that lacks one of the storages.
    """
    try:
        return _retyped(pickled, dtypes, subject)
    except ValueError as error:
        # What our own reader takes, the standard library's may not: texts, numbers in digits.
        raise _refused(subject, f"is not what torch writes ({error!s:.100})") from None


def _retyped(pickled: bytes, dtypes: Mapping[str, str], subject: str) -> bytes:
    walk = _Walk(subject)
    found: set[str] = set()
    for (operation, argument, at), (_next, _argument, after) in pairwise(
        pickletools.genops(pickled)
    ):
        name = operation.name
        # Offsets are known for bytes: only a file that cannot tell has none.
        begin, end = at or 0, after or 0
        if name in _NEWER:
            raise _refused(subject, "was pickled by another protocol than torch's own")
        if name == "BINPERSID":
            found.add(_name_class(walk, dtypes))
        elif name in _PUTS:
            _put(walk, int(str(argument)), end)
        elif name == "TUPLE":
            walk.is_closed = True
        else:
            _push(walk, name, argument, begin, end)
    if not found.issuperset(dtypes):
        raise _refused(subject, "lacks a storage that its tensors name")
    # A class whose place in the memo is gone must not be recalled by anything else.
    if walk.unset.intersection(walk.recalled.values()):
        raise _refused(subject, "uses the class of a storage for something else")
    return _edited(pickled, walk.edits)


def _push(walk: _Walk, name: str, argument: object, begin: int, end: int) -> None:
    if walk.is_closed or name == "MARK":
        walk.items = []
        walk.is_closed = False
    if name == "MARK":
        return
    item = _Item(str(argument) if name in _NAMED else None, begin, end)
    if name in _GETS:
        item.got = int(str(argument))
        item.text = walk.memo.get(item.got)
        walk.recalled[begin] = item.got
    walk.items.append(item)


def _put(walk: _Walk, place: int, end: int) -> None:
    """Note where the uppermost value is kept; a whole tuple is nothing of ours."""
    last = walk.items[-1] if walk.items and not walk.is_closed else None
    walk.memo[place] = last.text if last else None
    if last:
        last.put = place
        last.end = end


def _name_class(walk: _Walk, dtypes: Mapping[str, str]) -> str:
    """Let the storage that was just described name its class by itself; return its key."""
    items = walk.items
    if len(items) != _FIELDS or not walk.is_closed or items[0].text != "storage":
        raise _refused(walk.subject, "has a storage that is described in another way")
    named, key = items[_CLASS_AT], items[_KEY_AT].text
    module, _, old = (named.text or "").rpartition(" ")
    if not module or key is None:
        raise _refused(walk.subject, "has a storage that is described in another way")
    new = CLASS_OF_DTYPE[dtypes[key]] if key in dtypes else old
    walk.edits.append((named.begin, named.end, f"c{module}\n{new}\n".encode()))
    if named.put is not None:
        walk.unset.add(named.put)
    if named.got is not None:
        del walk.recalled[named.begin]
    walk.items = []
    walk.is_closed = False
    return key


def _edited(pickled: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    pieces, at = [], 0
    for begin, end, replacement in edits:
        pieces += [pickled[at:begin], replacement]
        at = end
    return b"".join([*pieces, pickled[at:]])


def _refused(subject: str, fact: str) -> RepairError:
    return RepairError(
        subject,
        fact=f"cannot be cast: it {fact}",
        todo="load it with torch and save it again, or leave it as it is",
    )
