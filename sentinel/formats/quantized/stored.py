"""What a scheme is shown of one module, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from sentinel.checkpoint import Tensor
from sentinel.dtypes import DTYPES
from sentinel.formats.scalars import as_count, as_text

Shape = tuple[int | None, ...]

_BITS = frozenset(range(1, 9))


@dataclass(frozen=True, slots=True)
class Description:
    """How a model's own files say it is packed: ``method`` None for one that is not.

    ``settings`` is the `quantization_config` or what stands for it, ``dtype`` the precision the
    model's configuration names ("bf16"), None when it names none, ``model`` that configuration.
    """

    method: str | None = None
    settings: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    dtype: str | None = None
    model: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def bits(self) -> int:
        """Return the bits of one code, 4 when the description does not tell."""
        for name in ("bits", "w_bit", "nbits"):
            named = as_count(self.settings.get(name))
            if named in _BITS:
                return named
        return 4

    def text(self, name: str) -> str | None:
        """Return a setting in lower case."""
        value = as_text(self.settings.get(name))
        return value.lower() if value is not None else None


@dataclass(frozen=True, slots=True)
class Stored:
    """The tensors of one module, each under what follows the module's name in its key.

    ``read`` gives the bytes of a small tensor, ``metadata`` that of the file a tensor lies in;
    both raise InputError. ``values`` are what a pickled file keeps beside the tensors.
    """

    module: str
    parts: Mapping[str, Tensor]
    description: Description
    read: Callable[[Tensor], bytes]
    metadata: Callable[[Tensor], Mapping[str, str]]
    values: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    def shape(self, part: str, axes: int = 2) -> tuple[int, ...] | None:
        """Return a part's shape if it is there and has so many axes."""
        tensor = self.parts.get(part)
        return tensor.shape if tensor is not None and len(tensor.shape) == axes else None

    def dtype(self, part: str) -> str:
        """Return a part's dtype, "" when it is not there."""
        tensor = self.parts.get(part)
        return tensor.dtype if tensor is not None else ""


@dataclass(frozen=True, slots=True)
class Packed:
    """What a module's weight is once unpacked.

    ``tensor`` holds the codes, ``shape`` is [out, in, ...] with None for what the files do not
    tell, ``compute_dtype`` the precision it is multiplied in ("fp16"; None: the model's own).
    """

    scheme: str
    tensor: Tensor
    shape: Shape = (None, None)
    compute_dtype: str | None = None


class Scheme(Protocol):
    """What the module of a scheme offers."""

    PARTS: frozenset[str]
    """What may follow a module's name in the keys of this scheme."""

    def unpack(self, stored: Stored) -> Packed | None:
        """Return the weight of one module, None when it is not packed this way."""


PRECISIONS: Mapping[str, str] = MappingProxyType({"F32": "fp32", "F16": "fp16", "BF16": "bf16"})
"""From a dtype to the name of the precision."""


def precision_named(text: str | None) -> str | None:
    """Return the precision that a configuration names as ``torch.bfloat16`` or ``bfloat16``."""
    names = {"float32": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16"}
    return names.get((text or "").removeprefix("torch."))


def codes_per_word(dtype: str, bits: int) -> int:
    """Return how many codes lie in one element of an integer tensor, at least 1."""
    known = DTYPES.get(dtype)
    return max(1, known.bits // bits) if known is not None else 1


def counts_of(raw: bytes, dtype: str) -> tuple[int, ...]:
    """Return the little-endian integers of a small tensor, none when it holds no integers."""
    known = DTYPES.get(dtype)
    if known is None or known.kind != "int":
        return ()
    width = known.bits // 8
    words = (raw[at : at + width] for at in range(0, len(raw), width))
    numbers = tuple(int.from_bytes(word, "little", signed=dtype.startswith("I")) for word in words)
    return numbers if all(number >= 0 for number in numbers) else ()
