"""What a checkpoint is, as values: its files, its tensors, who wrote it and when.

Nothing here does I/O and nothing changes after birth. `sentinel.formats` makes these values,
every floor above reads them.
"""

from __future__ import annotations

import copyreg
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Literal


def _read_only(items: dict[object, object]) -> MappingProxyType[object, object]:
    return MappingProxyType(items)


# Values cross process borders (a worker may die in our place), and the standard library gives its
# read-only dictionary no way to be pickled: not even its class has a name to be found under.
copyreg.pickle(MappingProxyType, lambda view: (_read_only, (dict(view),)))

Role = Literal[
    "lora_up",
    "lora_down",
    "lora_mid",
    "magnitude",
    "alpha",
    "adapter",
    "bias",
    "modules_to_save",
    "base",
    "optimizer",
    "other",
]
"""What a tensor is for. `lora_up` is lora_B or lora_up, `lora_down` is lora_A or lora_down,
`adapter` is a part of another adapter family, `base` a weight under the adapter."""

Part = Literal["weights", "optimizer", "state"]
"""What a resume loads one by one: a torn optimizer leaves the weights usable."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a checkpoint, as it lay on the disk when the checkpoint was opened.

    ``path`` is relative to the checkpoint's directory (for a single file: its name), with
    forward slashes. ``(device, inode, size_bytes, mtime_ns)`` is its identity.
    """

    path: str
    part: Part
    size_bytes: int
    mtime_ns: int
    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A box of a sharded tensor's elements, in a place and perhaps in a file of its own.

    ``place`` is the index in the tensor of its first element, ``shape`` its extents, ``strides``
    are as those of a tensor.
    """

    member: str
    offset: int
    size_bytes: int
    place: tuple[int, ...]
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as its container's header describes it; no value has been read.

    ``dtype`` is a safetensors name ("F32", "BF16", ...), ``offset`` the first byte inside the
    member, ``module`` the path of the module it belongs to without wrappers ("" when unknown).
    ``zero_at_init`` says that the adapter family starts this tensor at exactly zero, so that
    zeros mean "not yet updated" and not "damaged". ``strides`` count elements, as torch does;
    None when the elements lie row by row, as in every other container. ``big_endian`` says that
    the bytes of each element are the other way round.

    A sharded tensor lies in ``pieces``, which tile its shape and are sorted by their place;
    ``member`` and ``offset`` are then those of the first, ``size_bytes`` is that of all.
    """

    name: str
    member: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int
    role: Role = "other"
    module: str = ""
    family: str = ""
    zero_at_init: bool = False
    strides: tuple[int, ...] | None = None
    big_endian: bool = False
    pieces: tuple[Piece, ...] = ()

    def __reduce__(self) -> tuple[object, ...]:
        # Hundreds go to the process that reads and back; a dataclass's own way takes twice as long.
        return Tensor, _FIELDS_OF_TENSOR(self)

    @property
    def boxes(self) -> tuple[Piece, ...]:
        """Return where the elements lie: the pieces, for an unsharded tensor the one it is."""
        whole = (self.member, self.offset, self.size_bytes, (0,) * len(self.shape))
        return self.pieces or (Piece(*whole, self.shape, self.strides),)

    @property
    def is_plain(self) -> bool:
        """Tell whether the bytes (of each piece) are the elements row by row, little-endian."""
        if not self.pieces:
            return not self.big_endian and self.strides is None
        return not self.big_endian and all(box.strides is None for box in self.pieces)

    @property
    def is_dense(self) -> bool:
        """Tell whether the bytes are exactly the elements, each once, in whatever order."""
        if not self.pieces:
            return self.strides is None or is_dense(self.shape, self.strides)
        return all(box.strides is None or is_dense(box.shape, box.strides) for box in self.pieces)

    @property
    def numel(self) -> int:
        """Return the number of elements: the product of the shape, 1 for a scalar."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count


_FIELDS_OF_TENSOR = attrgetter(*(one.name for one in fields(Tensor)))


def is_dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Tell whether strides put every element in a place of its own, without a gap."""
    expected = 1
    for stride, extent in sorted(zip(strides, shape, strict=True)):
        if extent == 1:
            continue
        if stride != expected:
            return False
        expected *= extent
    return True


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What the trainer wrote about the adapter: rank, alpha and how it was initialised.

    ``target_parameters`` are those that carry an adapter themselves, such as a layer of experts:
    its matrices then hold those of all experts. The scale follows from the rest as in PEFT's
    LoraConfig: alpha / r, or alpha / sqrt(r) under rank-stabilised LoRA
    (https://arxiv.org/abs/2312.03732).
    """

    family: str = "lora"
    rank: int | None = None
    alpha: float | None = None
    rslora: bool = False
    dora: bool = False
    init: str = "default"
    rank_pattern: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    alpha_pattern: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    modules_to_save: tuple[str, ...] = ()
    target_parameters: tuple[str, ...] = ()
    base_model: str | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """One number the trainer itself logged: ``loss`` 2.31 at step 40."""

    step: int
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with the files themselves, found before any value was read.

    ``rule`` is the id of the file rule that reports it, ``message`` the whole sentence.
    """

    rule: str
    part: Part
    member: str
    message: str


@dataclass(frozen=True, slots=True)
class ParameterState:
    """What an optimizer keeps about one parameter, under the names of its `state_dict`.

    ``name`` is the parameter's own, None when the optimizer knows it by ``index`` alone;
    ``group`` is the place of its group in the state's ``groups``. ``numel`` is how many elements
    the parameter has, None where its moments are not packed and show it themselves.
    """

    index: int
    name: str | None
    group: int | None
    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, float]
    numel: int | None = None


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """The settings that some parameters share.

    A pair such as ``betas`` is kept as ``betas.0`` and ``betas.1``; ``tensors`` holds the settings
    that are tensors of one element.
    """

    settings: Mapping[str, str | int | float | bool]
    tensors: Mapping[str, Tensor]
    parameter_count: int


@dataclass(frozen=True, slots=True)
class OptimizerState:
    """A saved optimizer as its file describes it; no tensor's value has been read.

    ``opaque_count`` counts values of a kind that cannot be looked into.
    """

    member: str
    groups: tuple[ParameterGroup, ...]
    parameters: tuple[ParameterState, ...]
    opaque_count: int = 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a trainer saved in one go, understood as far as its headers go.

    ``updates_done`` counts optimizer steps with a learning rate above zero that are known to
    have happened, None when nothing tells. ``complete`` is True when the layout's own
    completion mark was seen, False when it is missing, None when the layout has none.
    ``settings`` holds flat training settings by dotted name (``precision.adapter``,
    ``optimizer.name``, ``base.quantization``, ``versions.peft``, ``device.bf16`` ...).
    ``optimizer`` is None when none was saved, or when it could not be understood.
    ``state_is_whole`` says that there are files of the part ``state`` and each was read to its end.
    """

    path: Path
    layout: str
    trainer: str | None
    step: int | None
    epoch: float | None
    updates_done: int | None
    complete: bool | None
    members: tuple[Member, ...]
    tensors: tuple[Tensor, ...]
    adapter: AdapterConfig | None = None
    metrics: tuple[Metric, ...] = ()
    settings: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    faults: tuple[Fault, ...] = ()
    optimizer: OptimizerState | None = None
    state_is_whole: bool = False

    @property
    def root(self) -> Path:
        """Return the directory that the members' paths are relative to."""
        is_file = any(member.path == self.path.name for member in self.members)
        return self.path.parent if is_file else self.path

    @property
    def size_bytes(self) -> int:
        """Return the bytes of all members together."""
        return sum(member.size_bytes for member in self.members)


Identity = tuple[tuple[str, int, int, int, int], ...]


def identity(members: tuple[Member, ...]) -> Identity:
    """Return what must be equal before and after measuring, without the members' order.

    A directory that is renamed keeps its members' identity, so it is not judged twice.
    """
    return tuple(sorted((m.path, m.device, m.inode, m.size_bytes, m.mtime_ns) for m in members))


@dataclass(frozen=True, slots=True)
class BaseWeight:
    """One weight of the model under an adapter, under the name of its module.

    ``dtype`` is the safetensors dtype of the stored tensor, ``scheme`` how it is packed
    ("none", "nf4", "gptq-int4", "fp8", ...). The features are those of the unpacked weight,
    [out, in] (for an embedding: [rows, columns]), None when the packing does not tell.
    ``stored`` is where its codes lie: a member relative to the base's path.
    """

    module: str
    tensor: str
    dtype: str
    scheme: str
    out_features: int | None
    in_features: int | None
    stored: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Base:
    """The model under an adapter: its weights, and the dtype it computes in (None: unknown)."""

    path: Path
    scheme: str
    compute_dtype: str | None
    weights: tuple[BaseWeight, ...]


def path_text(path: PurePath | str) -> str:
    """Return a path as text that every encoder takes: undecodable bytes backslash-escaped."""
    text = str(path)
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        # A lone surrogate that is no escaped byte: Windows allows it in a file name.
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
