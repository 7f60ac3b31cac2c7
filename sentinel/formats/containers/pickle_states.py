"""What a state set on an object can do, though its class was made by a call that only builds data.

An attribute is enough: BUILD asks the object itself for `__setstate__`, APPENDS for `extend`,
and what sets `__class__` turns a namespace into something whose end deletes a file. So
``Namespace()`` with ``{"__setstate__": os.system}`` as its state runs the next state in a shell.
Source: `load_build` of pickle.py in the standard library, `_set_obj_state` in torch/_utils.py.
"""

from __future__ import annotations

from sentinel.formats.containers.pickle_nodes import Call, Global

STATE_SETTERS = frozenset(
    {"torch._tensor._rebuild_from_type_v2", "torch._utils._rebuild_parameter_with_state"}
)
"""Calls whose last argument becomes the state of what they make."""

ATTRIBUTE_SETTERS = frozenset({"argparse.Namespace", "types.SimpleNamespace"})
"""Calls that set what they are given as attributes."""

_PAIR = 2
_MADE_STATES = ("numpy.random.",)
"""Modules whose objects have another object as their state."""


def harm_of_call(target: Global, arguments: tuple[object, ...]) -> str | None:
    """Return what a call on the closed list would do by the state it is given, None: nothing."""
    if str(target) in STATE_SETTERS and arguments:
        return harm_of_state(target, arguments[-1])
    if str(target) in ATTRIBUTE_SETTERS:
        harms = (harm_of_state(target, argument) for argument in arguments)
        return next((harm for harm in harms if harm), None)
    return None


def harm_of_state(target: Global | None, state: object) -> str | None:
    """Return what a state would do to an object that ``target`` made, None: nothing.

    Of a pair the first goes into the object's dictionary and the second is set attribute by
    attribute; torch sets both that way.
    """
    may_be_made = target is not None and target.module.startswith(_MADE_STATES)
    is_pair = isinstance(state, tuple) and len(state) == _PAIR
    for part in (state, *(state if is_pair and isinstance(state, tuple) else ())):
        if isinstance(part, Call) and not may_be_made:
            return f"set a state that '{part.target!s:.200}' makes"
        for name in part if isinstance(part, dict) else ():
            if isinstance(name, str) and name.startswith("__"):
                return f"set '{name:.200}' of what it builds"
    return None
