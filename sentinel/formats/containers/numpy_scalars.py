"""NumPy's scalars in pickles: learning rates and steps are often such numbers."""

from __future__ import annotations

import struct

from sentinel.formats.containers.pickle_nodes import Call

_FORMATS = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "u8": "Q", "u4": "I", "b1": "?"}
_ORDERS = frozenset({"<", ">"})
_STATE_ORDER = 1


def numpy_scalar(call: Call) -> float | int | bool | None:
    """Return the number that a call of NumPy's `scalar` would make, None for any other call."""
    if call.target.module not in {"numpy.core.multiarray", "numpy._core.multiarray"}:
        return None
    if call.target.name != "scalar" or len(call.arguments) != 2:  # noqa: PLR2004 - dtype, bytes
        return None
    dtype, raw = call.arguments
    if not isinstance(dtype, Call) or str(dtype.target) != "numpy.dtype" or not dtype.arguments:
        return None
    named = dtype.arguments[0]
    form = _FORMATS.get(named) if isinstance(named, str) else None
    data = _bytes_of(raw)
    if form is None or data is None or len(data) != struct.calcsize(f"<{form}"):
        return None
    number: float | int | bool = struct.unpack(_order_of(dtype) + form, data)[0]
    return number


def _order_of(dtype: Call) -> str:
    state = dtype.state
    order = state[_STATE_ORDER] if isinstance(state, tuple) and len(state) > _STATE_ORDER else None
    return order if isinstance(order, str) and order in _ORDERS else "<"


def _bytes_of(raw: object) -> bytes | None:
    """Return bytes; up to protocol 2 they are Latin-1 text that would be encoded."""
    if isinstance(raw, bytes):
        return raw
    if isinstance(raw, Call) and str(raw.target) == "_codecs.encode" and raw.arguments:
        raw = raw.arguments[0]
    if not isinstance(raw, str):
        return None
    try:
        return raw.encode("latin-1")
    except UnicodeEncodeError:
        return None
