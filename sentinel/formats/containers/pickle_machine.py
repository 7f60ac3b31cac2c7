"""The machine that runs a pickle's opcodes: stack, marks, memo, and calls that nobody makes.

What a pickle would call becomes a `Call`, if its name is on the closed list, and else an
UnsafePickleError; a name that is only mentioned is a `Global`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

from sentinel.errors import UnsafePickleError
from sentinel.formats.containers.pickle_globals import (
    CALLERS,
    MAPPINGS,
    PYTHON_2_MODULES,
    SEQUENCES,
    is_harmless,
    is_settings_class,
)
from sentinel.formats.containers.pickle_nodes import Call, Global, Persistent
from sentinel.formats.containers.pickle_states import harm_of_call, harm_of_state

if TYPE_CHECKING:
    from sentinel.formats.containers.pickle_source import PickleSource

BUILT_LIMIT = 1_000_000
"""Containers and calls, and elements copied from one container into another."""

MARK_LIMIT = 10_000
MEMO_LIMIT = 1_000_000
TUPLE_KEY_LIMIT = 1000
"""Unlike texts, tuples can be made so that they all hash alike, which takes time squared."""

_LARGEST_KEY = 2**63
_KEY_DEPTH = 4
_KEY_NODES = 100
_PAIR = 2


class Machine:
    """The stack, the marks and the memo of one pickle.

    Every method raises InputError where the pickle asks for what cannot be.
    """

    def __init__(self, source: PickleSource) -> None:
        self.source = source
        self.stack: list[object] = []
        self.below: list[list[object]] = []
        self.memo: dict[int, object] = {}
        self.built = 0
        self.tuple_keys = 0

    # -- the stack --

    def push(self, value: object) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self) -> object:
        """Take the uppermost value from the stack."""
        if not self.stack:
            self.source.refuse("takes a value from an empty stack")
        return self.stack.pop()

    def top(self) -> object:
        """Return the uppermost value and leave it there."""
        if not self.stack:
            self.source.refuse("looks at an empty stack")
        return self.stack[-1]

    def mark(self) -> None:
        """Begin a stack of its own above the present one."""
        if len(self.below) == MARK_LIMIT:
            self.source.refuse(f"has more than {MARK_LIMIT} open marks")
        self.below.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[object]:
        """Return what was pushed since the last mark, and go on below it."""
        if not self.below:
            self.source.refuse("goes back to a mark that is not there")
        found = self.stack
        self.stack = self.below.pop()
        return found

    def pop_or_unmark(self) -> None:
        """Drop the uppermost value, or a mark with nothing above it."""
        if self.stack or not self.below:
            self.pop()
        else:
            self.pop_mark()

    def spend(self, count: int) -> None:
        """Count objects that are built, against the limit."""
        self.built += count
        if self.built > BUILT_LIMIT:
            self.source.refuse(f"builds more than {BUILT_LIMIT} objects")

    # -- the memo --

    def remember(self, place: int) -> None:
        """Keep the uppermost value under a number."""
        self.memo[place] = self.top()
        if len(self.memo) > MEMO_LIMIT:
            self.source.refuse(f"keeps more than {MEMO_LIMIT} values in its memo")

    def recall(self, place: int) -> None:
        """Push a kept value again."""
        if place not in self.memo:
            self.source.refuse("recalls a value it never kept")
        self.push(self.memo[place])

    # -- containers --

    def push_new(self, value: object) -> None:
        """Push a value that was just built."""
        self.spend(1)
        self.push(value)

    def tuple_of(self, count: int) -> None:
        """Push the uppermost values as a tuple."""
        self.spend(1)
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def extend(self, values: list[object]) -> None:
        """Append to the list on top of the stack."""
        target = self.top()
        if isinstance(target, Call | dict):
            # An object that is no list may bring a method of that name along.
            raise self.unsafe("loading it would call an 'append' of what it builds")
        if not isinstance(target, list):
            self.source.refuse("appends to something that is no list")
        target.extend(values)

    def update(self, values: list[object]) -> None:
        """Set items of the dictionary on top of the stack: keys and values in turn."""
        target = self.top()
        if not isinstance(target, dict) or len(values) % _PAIR:
            self.source.refuse("sets items of something that is no dictionary")
        self.fill(target, zip(values[::2], values[1::2], strict=True))

    def fill(self, target: dict[object, object], pairs: Iterable[tuple[object, object]]) -> None:
        """Set items whose keys can be hashed at little cost."""
        for key, value in pairs:
            self.tuple_keys += isinstance(key, tuple)
            if not _is_plain_key(key) or self.tuple_keys > TUPLE_KEY_LIMIT:
                self.source.refuse("has a dictionary with a key that no trainer writes")
            target[key] = value

    # -- what would be called --

    def push_global(self, module: object, name: object) -> None:
        """Push the name of a class or function."""
        for part in (module, name):
            if isinstance(part, Call):
                # `builtins.str(b"os", "ascii")` is text once it is called, and here it is not.
                self.refuse_call(part)
        if not isinstance(module, str) or not isinstance(name, str):
            self.source.refuse("names a global by something that is no text")
        self.push_new(Global(PYTHON_2_MODULES.get(module, module), name))

    def call(self, target: object, arguments: object) -> None:
        """Push what a call would make, if its target only builds data."""
        if not isinstance(target, Global):
            self.refuse_call(target)
        if not is_harmless(target) and (arguments != () or not is_settings_class(target)):
            self.refuse_call(target)
        if not isinstance(arguments, tuple):
            self.source.refuse("calls something with arguments that are no tuple")
        self.refuse_harm(harm_of_call(target, arguments))
        if str(target) in CALLERS:
            for one in arguments:
                if isinstance(one, Global) and not is_harmless(one):
                    self.refuse_call(one)
        if str(target) == "copyreg._reconstructor" and arguments:
            # It makes an instance of its first argument, whatever that is.
            return self.call(arguments[0], arguments[1:])
        if str(target) == "torch._tensor._rebuild_from_type_v2" and len(arguments) > _PAIR:
            # It calls its first argument with the third, and sets the fourth as its state.
            self.call(arguments[0], arguments[2])
            made = self.top()
            if isinstance(made, Call) and len(arguments) > _PAIR + 1:
                made.state = arguments[_PAIR + 1]
            return None
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
        """Keep the uppermost value as the state of the call below it."""
        state, target = self.pop(), self.top()
        self.refuse_harm(harm_of_state(target.target if isinstance(target, Call) else None, state))
        if isinstance(target, Call):
            target.state = state
        elif isinstance(target, Global | Persistent):
            self.refuse_call(target)
        elif not isinstance(target, dict | list):
            # A container may carry attributes, as a state_dict its `_metadata`: not needed here.
            self.source.refuse("sets the state of something that has none")

    def refuse_call(self, target: object) -> NoReturn:
        """Raise UnsafePickleError for a call that no checkpoint needs."""
        if isinstance(target, Call):
            target = target.target
        named = f"'{target!s:.200}'" if isinstance(target, Global) else "what it built itself"
        raise self.unsafe(f"loading it would call {named}, which no checkpoint needs")

    def refuse_harm(self, harm: str | None) -> None:
        """Raise UnsafePickleError when there is any harm."""
        if harm is not None:
            raise self.unsafe(f"loading it would {harm}")

    def unsafe(self, fact: str) -> UnsafePickleError:
        """Return the error for what loading the file would do, here where nothing is done."""
        return UnsafePickleError(
            self.source.subject,
            where=f"at byte {self.source.at} of its pickle",
            fact=f"{fact}; nothing was run",
            todo="do not load it, and ask where it came from",
        )


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == _PAIR


def _is_plain_key(key: object) -> bool:
    """Tell whether a key can be hashed at little cost: tuples are looked into, not far.

    Whole numbers hash to themselves modulo 2**61 - 1: larger ones can all be made to hash alike.
    """
    left = _KEY_NODES
    level: list[object] = [key]
    for _ in range(_KEY_DEPTH):
        inner: list[object] = []
        for one in level:
            if isinstance(one, list | dict | bytearray):
                return False
            if isinstance(one, int) and abs(one) > _LARGEST_KEY:
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
