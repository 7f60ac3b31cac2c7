"""A closed interpreter of pickles: it builds data and calls nothing.

Every opcode of protocols 0 to 5 is understood except those that reach outside the file
(extension codes, out-of-band buffers). What a pickle would call becomes a `Call`, if its name is
on the closed list, and else an UnsafePickleError; a name that is only mentioned is a `Global`.
Opcodes: `pickletools.opcodes` of the standard library.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

from sentinel.errors import UnsafePickleError
from sentinel.formats.containers import pickle_text as text
from sentinel.formats.containers.pickle_globals import (
    MAPPINGS,
    PYTHON_2_MODULES,
    SEQUENCES,
    is_harmless,
)
from sentinel.formats.containers.pickle_nodes import Call, Global, Persistent

if TYPE_CHECKING:
    from sentinel.formats.containers.pickle_source import PickleSource

OPCODE_LIMIT = 4_000_000
"""A model of 50,000 tensors takes about half of it."""

BUILT_LIMIT = 1_000_000
"""Containers and calls, and elements copied from one container into another."""

MARK_LIMIT = 10_000
LONG_LIMIT_BYTES = 256
_HIGHEST_PROTOCOL = 5
_STOP = 0x2E
_KEY_DEPTH = 4
_KEY_NODES = 100
_PAIR = 2


def read_pickle(source: PickleSource) -> object:
    """Read one pickle up to its STOP and return its value; nothing is imported or called.

    Dictionaries, lists, tuples, strings, bytes, numbers, booleans and None are themselves; sets
    and deques are lists, strings hold no surrogates, everything else is a node of `pickle_nodes`.
    The value may hold itself and may be deep: walk it with a limit. Raises TruncatedError,
    UnsafePickleError, or another InputError.
    """
    machine = _Machine(source)
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


class _Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self, source: PickleSource) -> None:
        self.source = source
        self.stack: list[object] = []
        self.below: list[list[object]] = []
        self.memo: dict[int, object] = {}
        self.built = 0

    # -- the stack --

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> object:
        if not self.stack:
            self.source.refuse("takes a value from an empty stack")
        return self.stack.pop()

    def top(self) -> object:
        if not self.stack:
            self.source.refuse("looks at an empty stack")
        return self.stack[-1]

    def mark(self) -> None:
        if len(self.below) == MARK_LIMIT:
            self.source.refuse(f"has more than {MARK_LIMIT} open marks")
        self.below.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[object]:
        if not self.below:
            self.source.refuse("goes back to a mark that is not there")
        found = self.stack
        self.stack = self.below.pop()
        return found

    def pop_or_unmark(self) -> None:
        if self.stack or not self.below:
            self.pop()
        else:
            self.pop_mark()

    def spend(self, count: int) -> None:
        self.built += count
        if self.built > BUILT_LIMIT:
            self.source.refuse(f"builds more than {BUILT_LIMIT} objects")

    # -- the memo --

    def remember(self, place: int) -> None:
        self.memo[place] = self.top()

    def recall(self, place: int) -> None:
        if place not in self.memo:
            self.source.refuse("recalls a value it never kept")
        self.push(self.memo[place])

    # -- containers --

    def push_new(self, value: object) -> None:
        self.spend(1)
        self.push(value)

    def tuple_of(self, count: int) -> None:
        self.spend(1)
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def extend(self, values: list[object]) -> None:
        target = self.top()
        if not isinstance(target, list):
            self.source.refuse("appends to something that is no list")
        target.extend(values)

    def update(self, values: list[object]) -> None:
        target = self.top()
        if not isinstance(target, dict) or len(values) % _PAIR:
            self.source.refuse("sets items of something that is no dictionary")
        self.fill(target, zip(values[::2], values[1::2], strict=True))

    def fill(self, target: dict[object, object], pairs: Iterable[tuple[object, object]]) -> None:
        for key, value in pairs:
            if not _is_plain_key(key):
                self.source.refuse("has a dictionary with a key that no trainer writes")
            target[key] = value

    # -- what would be called --

    def push_global(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            self.source.refuse("names a global by something that is no text")
        self.push_new(Global(PYTHON_2_MODULES.get(module, module), name))

    def call(self, target: object, arguments: object) -> None:
        if not isinstance(target, Global):
            self.refuse_call(target)
        if not isinstance(arguments, tuple):
            self.source.refuse("calls something with arguments that are no tuple")
        if str(target) == "copyreg._reconstructor" and arguments:
            # It makes an instance of its first argument, whatever that is.
            return self.call(arguments[0], arguments[1:])
        if str(target) == "torch._tensor._rebuild_from_type_v2" and len(arguments) > _PAIR:
            # It calls its first argument with the third.
            return self.call(arguments[0], arguments[2])
        if not is_harmless(target):
            self.refuse_call(target)
        self.push_new(self.result(target, arguments))
        return None

    def result(self, target: Global, arguments: tuple[object, ...]) -> object:
        """Return a plain container where the call makes one, else the call itself."""
        name = str(target)
        if name in SEQUENCES:
            given = arguments[0] if arguments else []
            if isinstance(given, list | tuple):
                self.spend(len(given))
                return tuple(given) if name == "torch.Size" else list(given)
        if name in MAPPINGS:
            return self.mapping(arguments)
        return Call(target, arguments)

    def mapping(self, arguments: tuple[object, ...]) -> dict[object, object]:
        """Return the dictionary that a call would make; a defaultdict's factory is left out."""
        found: dict[object, object] = {}
        for given in arguments:
            if isinstance(given, dict):
                self.spend(len(given))
                found |= given
            elif isinstance(given, list | tuple) and all(map(_is_pair, given)):
                self.spend(len(given))
                self.fill(found, ((key, value) for key, value in given))
            elif not isinstance(given, Global | None):
                self.source.refuse("makes a dictionary of something that is no pairs")
        return found

    def set_state(self) -> None:
        state, target = self.pop(), self.top()
        if isinstance(target, Call):
            target.state = state
        elif isinstance(target, Global | Persistent):
            self.refuse_call(target)
        elif not isinstance(target, dict | list):
            # A container may carry attributes, as a state_dict its `_metadata`: not needed here.
            self.source.refuse("sets the state of something that has none")

    def refuse_call(self, target: object) -> NoReturn:
        if isinstance(target, Call):
            target = target.target
        named = f"'{target!s:.200}'" if isinstance(target, Global) else "what it built itself"
        raise UnsafePickleError(
            self.source.subject,
            where=f"at byte {self.source.at} of its pickle",
            fact=f"loading it would call {named}, which no checkpoint needs; nothing was run",
            todo="do not load it, and ask where it came from",
        )


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == _PAIR


def _is_plain_key(key: object) -> bool:
    """Tell whether a key can be hashed at little cost: tuples are looked into, not far."""
    left = _KEY_NODES
    level: list[object] = [key]
    for _ in range(_KEY_DEPTH):
        inner: list[object] = []
        for one in level:
            if isinstance(one, list | dict | bytearray):
                return False
            if isinstance(one, tuple):
                left -= len(one)
                if left < 0:
                    return False
                inner.extend(one)
        if not inner:
            return True
        level = inner
    return False


def _frame(m: _Machine) -> None:
    # The frame's bytes follow as opcodes, each with its own check.
    m.source.number(8)


def _protocol(m: _Machine) -> None:
    if (found := m.source.take(1)[0]) > _HIGHEST_PROTOCOL:
        m.source.refuse(f"is of protocol {found}, known are those up to {_HIGHEST_PROTOCOL}")


def _long(m: _Machine, width: int) -> None:
    count = m.source.number(width)
    if count > LONG_LIMIT_BYTES:
        m.source.refuse(f"has a number of {count} bytes, the limit is {LONG_LIMIT_BYTES}")
    m.push(int.from_bytes(m.source.take(count), "little", signed=True))


def _bytes(m: _Machine, width: int) -> None:
    m.push(m.source.take(m.source.number(width)))


def _unicode(m: _Machine, width: int) -> None:
    m.push(text.utf8(m.source.take(m.source.number(width))))


def _latin(m: _Machine, width: int) -> None:
    # Python 2's strings: text or bytes, and here nearly always text.
    m.push(m.source.take(m.source.number(width)).decode("latin-1"))


def _number(m: _Machine, parse: Callable[[bytes], object]) -> None:
    line = m.source.line()
    try:
        m.push(parse(line))
    except ValueError:
        m.source.refuse("has a number that is none")


def _inst(m: _Machine) -> None:
    module, name = text.utf8(m.source.line()), text.utf8(m.source.line())
    arguments = tuple(m.pop_mark())
    m.push_global(module, name)
    m.call(m.pop(), arguments)


def _obj(m: _Machine) -> None:
    values = m.pop_mark()
    if not values:
        m.source.refuse("makes an object of no class")
    m.call(values[0], tuple(values[1:]))


def _reduce(m: _Machine) -> None:
    arguments, target = m.pop(), m.pop()
    m.call(target, arguments)


def _newobj_ex(m: _Machine) -> None:
    keywords, arguments, target = m.pop(), m.pop(), m.pop()
    m.call(target, arguments)
    made = m.top()
    if isinstance(made, Call):
        made.state = keywords
    elif keywords:
        m.source.refuse("makes a container of keywords")


def _stack_global(m: _Machine) -> None:
    name, module = m.pop(), m.pop()
    m.push_global(module, name)


def _setitem(m: _Machine) -> None:
    value, key = m.pop(), m.pop()
    m.update([key, value])


def _frozen(m: _Machine) -> None:
    m.push_new(m.pop_mark())


def _place(m: _Machine) -> int:
    line = m.source.line()
    if not line.isdigit() or len(line) > 10:  # noqa: PLR2004 - digits of 2**32
        m.source.refuse("has a place in its memo that is no number")
    return int(line)


def _mapping_of_mark(m: _Machine) -> None:
    values = m.pop_mark()
    m.push_new({})
    m.update(values)


_OPERATIONS: Mapping[int, Callable[[_Machine], object]] = MappingProxyType(
    {
        ord("("): _Machine.mark,
        ord("0"): _Machine.pop_or_unmark,
        ord("1"): _Machine.pop_mark,
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
        ord("b"): _Machine.set_state,
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
