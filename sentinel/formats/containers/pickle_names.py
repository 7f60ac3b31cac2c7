"""What a pickle names, told without understanding it: for one that was refused half-way.

Something that no writer leaves in a pickle may stand before a call on purpose, so that whoever
stops there calls the file damaged. Python's own reader would go on.
"""

from __future__ import annotations

import pickletools
import sys
from collections import deque
from typing import TYPE_CHECKING

from sentinel.errors import InputError
from sentinel.formats.containers.pickle_globals import PYTHON_2_MODULES, is_harmless
from sentinel.formats.containers.pickle_nodes import Global
from sentinel.formats.containers.pickle_text import utf8
from sentinel.formats.containers.torch_dtypes import DTYPE_OF_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentinel.formats.containers.pickle_source import PickleSource

WALK_LIMIT = 1_000_000
"""Opcodes: a second's work."""

_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_OPCODES = {operation.code: operation for operation in pickletools.opcodes}
_TEXTS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_PAIRS = frozenset({"GLOBAL", "INST"})
_FOREIGN = frozenset({"__builtin__", "commands", "nt", "pip"})


def harmful_name(source: PickleSource) -> Global | None:
    """Return the first name that a pickle has no business with, None when it has none.

    A class of another package may be a trainer's own, and counts only where it is called. What
    cannot be walked through ends the search.
    """
    try:
        return next((name for name in _names(source) if _is_harmful(name)), None)
    except InputError:
        return None


def _is_harmful(name: Global) -> bool:
    package = name.module.partition(".")[0]
    own = Global(PYTHON_2_MODULES.get(name.module, name.module), name.name)
    is_name = all(part.isidentifier() for part in str(name).split("."))
    if not is_name or is_harmless(own) or str(name) in DTYPE_OF_NAME:
        return False
    is_class = name.name.rpartition(".")[2].lstrip("_")[:1].isupper()
    return not is_class or package in sys.stdlib_module_names or package in _FOREIGN


def _names(source: PickleSource) -> Iterator[Global]:
    """Yield what is named: by an opcode, or by the two texts before one."""
    texts: deque[str] = deque(["", ""], maxlen=2)
    memo: dict[int, str] = {}
    memoized = 0
    for _ in range(WALK_LIMIT):
        operation = _OPCODES.get(source.take(1).decode("latin-1"))
        if operation is None or operation.name == "STOP":
            return
        argument = _argument(source, operation)
        if operation.name in _PAIRS:
            yield Global(utf8(argument), utf8(source.line()))
        elif operation.name == "STACK_GLOBAL":
            yield Global(*texts)
        elif operation.name in _TEXTS:
            texts.append(utf8(argument).strip("'\""))
        elif operation.name == "MEMOIZE":
            memo[memoized] = texts[-1]
        elif operation.name in _PUTS:
            memo[_place(operation, argument)] = texts[-1]
        elif operation.name in _GETS:
            texts.append(memo.get(_place(operation, argument), ""))
        memoized += operation.name == "MEMOIZE"


def _argument(source: PickleSource, operation: pickletools.OpcodeInfo) -> bytes:
    """Return the bytes of an opcode's argument, of a pair of lines the first."""
    if operation.arg is None:
        return b""
    if operation.arg.n == pickletools.UP_TO_NEWLINE:
        return source.line()
    if operation.arg.n in _LENGTHS:
        return source.take(source.number(_LENGTHS[operation.arg.n]))
    return source.take(operation.arg.n)


def _place(operation: pickletools.OpcodeInfo, argument: bytes) -> int:
    """Return a place in the memo: a line of digits, or a number in binary."""
    if operation.name in {"PUT", "GET"}:
        return int(argument) if argument.isdigit() else -1
    return int.from_bytes(argument, "little")
