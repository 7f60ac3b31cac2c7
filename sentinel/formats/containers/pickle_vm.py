"""A closed interpreter of pickles: it builds data and calls nothing.

Every opcode of protocols 0 to 5 is understood except those that reach outside the file
(extension codes, out-of-band buffers). What a pickle would call becomes a `Call`, if its name is
on the closed list, and else an UnsafePickleError; a name that is only mentioned is a `Global`.
Opcodes: `pickletools.opcodes` of the standard library.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from sentinel.errors import InputError, TruncatedError, UnsafePickleError
from sentinel.formats.containers import pickle_text as text
from sentinel.formats.containers.pickle_machine import Machine
from sentinel.formats.containers.pickle_names import harmful_name
from sentinel.formats.containers.pickle_nodes import Call, Persistent

if TYPE_CHECKING:
    from sentinel.formats.containers.pickle_source import PickleSource

OPCODE_LIMIT = 4_000_000
"""A model of 50,000 tensors takes about half of it."""

LONG_LIMIT_BYTES = 256
_HIGHEST_PROTOCOL = 5
_STOP = 0x2E


def read_pickle(source: PickleSource) -> object:
    """Read one pickle up to its STOP and return its value; nothing is imported or called.

    Dictionaries, lists, tuples, strings, bytes, numbers, booleans and None are themselves; sets
    and deques are lists, strings hold no surrogates, everything else is a node of `pickle_nodes`.
    The value may hold itself and may be deep: walk it with a limit. Raises TruncatedError,
    UnsafePickleError, or another InputError.
    """
    begin = source.at
    try:
        return _run(source)
    except (TruncatedError, UnsafePickleError):
        raise
    except InputError as error:
        name = harmful_name(source.again(begin))
        if name is None:
            raise
        raise UnsafePickleError(
            error.what,
            where=error.where,
            fact=f"{error.fact}, and it names '{name!s:.200}', which no checkpoint needs; nothing"
            " was run",
            todo="do not load it, and ask where it came from",
        ) from None


def _run(source: PickleSource) -> object:
    machine = Machine(source)
    count = 0
    while (code := source.take(1)[0]) != _STOP:
        operation = _OPERATIONS.get(code)
        if operation is None:
            source.refuse(f"has the unknown opcode 0x{code:02x}")
        operation(machine)
        count += 1
        if count > OPCODE_LIMIT:
            source.refuse(f"has more than {OPCODE_LIMIT} opcodes")
    return machine.pop()


def _frame(m: Machine) -> None:
    # The frame's bytes follow as opcodes, each with its own check.
    m.source.number(8)


def _protocol(m: Machine) -> None:
    if (found := m.source.take(1)[0]) > _HIGHEST_PROTOCOL:
        m.source.refuse(f"is of protocol {found}, known are those up to {_HIGHEST_PROTOCOL}")


def _long(m: Machine, width: int) -> None:
    count = m.source.number(width)
    if count > LONG_LIMIT_BYTES:
        m.source.refuse(f"has a number of {count} bytes, the limit is {LONG_LIMIT_BYTES}")
    m.push(int.from_bytes(m.source.take(count), "little", signed=True))


def _bytes(m: Machine, width: int) -> None:
    m.push(m.source.take(m.source.number(width)))


def _unicode(m: Machine, width: int) -> None:
    m.push(text.utf8(m.source.take(m.source.number(width))))


def _latin(m: Machine, width: int) -> None:
    # Python 2's strings: text or bytes, and here nearly always text.
    m.push(m.source.take(m.source.number(width)).decode("latin-1"))


def _number(m: Machine, parse: Callable[[bytes], object]) -> None:
    line = m.source.line()
    try:
        m.push(parse(line))
    except ValueError:
        m.source.refuse("has a number that is none")


def _inst(m: Machine) -> None:
    module, name = text.utf8(m.source.line()), text.utf8(m.source.line())
    arguments = tuple(m.pop_mark())
    m.push_global(module, name)
    m.call(m.pop(), arguments)


def _obj(m: Machine) -> None:
    values = m.pop_mark()
    if not values:
        m.source.refuse("makes an object of no class")
    m.call(values[0], tuple(values[1:]))


def _reduce(m: Machine) -> None:
    arguments, target = m.pop(), m.pop()
    m.call(target, arguments)


def _newobj_ex(m: Machine) -> None:
    keywords, arguments, target = m.pop(), m.pop(), m.pop()
    m.call(target, arguments)
    made = m.top()
    if isinstance(made, Call):
        made.state = keywords
    elif keywords:
        m.source.refuse("makes a container of keywords")


def _stack_global(m: Machine) -> None:
    name, module = m.pop(), m.pop()
    m.push_global(module, name)


def _setitem(m: Machine) -> None:
    value, key = m.pop(), m.pop()
    m.update([key, value])


def _frozen(m: Machine) -> None:
    m.push_new(m.pop_mark())


def _extension(m: Machine, width: int) -> None:
    number = m.source.number(width)
    raise m.unsafe(f"loading it would call the extension {number}, whatever that is")


def _place(m: Machine) -> int:
    line = m.source.line()
    if not line.isdigit() or len(line) > 10:  # noqa: PLR2004 - digits of 2**32
        m.source.refuse("has a place in its memo that is no number")
    return int(line)


def _mapping_of_mark(m: Machine) -> None:
    values = m.pop_mark()
    m.push_new({})
    m.update(values)


_OPERATIONS: Mapping[int, Callable[[Machine], object]] = MappingProxyType(
    {
        ord("("): Machine.mark,
        ord("0"): Machine.pop_or_unmark,
        ord("1"): Machine.pop_mark,
        ord("2"): lambda m: m.push(m.top()),
        ord("F"): lambda m: _number(m, float),
        ord("I"): lambda m: _number(m, text.integer_line),
        ord("L"): lambda m: _number(m, text.long_line),
        ord("J"): lambda m: m.push(int.from_bytes(m.source.take(4), "little", signed=True)),
        ord("K"): lambda m: m.push(m.source.number(1)),
        ord("M"): lambda m: m.push(m.source.number(2)),
        ord("G"): lambda m: m.push(struct.unpack(">d", m.source.take(8))[0]),
        ord("N"): lambda m: m.push(None),
        ord("S"): lambda m: m.push(text.quoted_line(m.source)),
        ord("T"): lambda m: _latin(m, 4),
        ord("U"): lambda m: _latin(m, 1),
        ord("V"): lambda m: m.push(text.escaped_line(m.source)),
        ord("X"): lambda m: _unicode(m, 4),
        ord("B"): lambda m: _bytes(m, 4),
        ord("C"): lambda m: _bytes(m, 1),
        ord("P"): lambda m: m.push_new(Persistent(text.utf8(m.source.line()))),
        ord("Q"): lambda m: m.push_new(Persistent(m.pop())),
        ord("R"): _reduce,
        ord("a"): lambda m: m.extend([m.pop()]),
        ord("e"): lambda m: m.extend(m.pop_mark()),
        ord("b"): Machine.set_state,
        ord("c"): lambda m: m.push_global(text.utf8(m.source.line()), text.utf8(m.source.line())),
        ord("i"): _inst,
        ord("o"): _obj,
        ord("d"): _mapping_of_mark,
        ord("l"): _frozen,
        ord("t"): lambda m: m.push_new(tuple(m.pop_mark())),
        ord("}"): lambda m: m.push_new({}),
        ord("]"): lambda m: m.push_new([]),
        ord(")"): lambda m: m.push(()),
        ord("s"): _setitem,
        ord("u"): lambda m: m.update(m.pop_mark()),
        ord("p"): lambda m: m.remember(_place(m)),
        ord("q"): lambda m: m.remember(m.source.number(1)),
        ord("r"): lambda m: m.remember(m.source.number(4)),
        ord("g"): lambda m: m.recall(_place(m)),
        ord("h"): lambda m: m.recall(m.source.number(1)),
        ord("j"): lambda m: m.recall(m.source.number(4)),
        0x80: _protocol,
        0x81: _reduce,  # NEWOBJ: a class instead of a function, the same to us
        0x82: lambda m: _extension(m, 1),
        0x83: lambda m: _extension(m, 2),
        0x84: lambda m: _extension(m, 4),
        0x85: lambda m: m.tuple_of(1),
        0x86: lambda m: m.tuple_of(2),
        0x87: lambda m: m.tuple_of(3),
        0x88: lambda m: m.push(True),  # noqa: FBT003 - the value itself
        0x89: lambda m: m.push(False),  # noqa: FBT003 - the value itself
        0x8A: lambda m: _long(m, 1),
        0x8B: lambda m: _long(m, 4),
        0x8C: lambda m: _unicode(m, 1),
        0x8D: lambda m: _unicode(m, 8),
        0x8E: lambda m: _bytes(m, 8),
        0x8F: lambda m: m.push_new([]),  # EMPTY_SET
        0x90: lambda m: m.extend(m.pop_mark()),  # ADDITEMS
        0x91: _frozen,
        0x92: _newobj_ex,
        0x93: _stack_global,
        0x94: lambda m: m.remember(len(m.memo)),
        0x95: _frame,
        0x96: lambda m: _bytes(m, 8),  # BYTEARRAY8
    }
)
"""By opcode; STOP is handled by `read_pickle`."""
