"""Up and down matrices taken together: what a LoRA adds to a weight, without forming it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from sentinel.stats.scale import is_parameter, rank_of, scale_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sentinel.checkpoint import AdapterConfig, Tensor
    from sentinel.stats.moments import Moments
    from sentinel.stats.products import Size

_STACKED_AXES = 3
_COMPONENTS = {
    "lora_unet": "unet",
    "oft_unet": "unet",
    "lora_te": "text_encoder",
    "lora_te1": "text_encoder",
    "lora_te2": "text_encoder_2",
    "lora_te3": "text_encoder_3",
}
_MIDDLE = "lora_E"


class Pair(NamedTuple):
    """The matrices of one module; ``up`` is [out, r], ``down`` [r, in], kernels behind.

    Those of experts may be stacked: [experts, out, r] and [experts, r, in].
    ``middle`` is AdaLoRA's diagonal [r, 1] between the two.
    """

    module: str
    up: Tensor
    down: Tensor
    alpha: Tensor | None
    has_mid: bool
    middle: Tensor | None = None

    @property
    def zero_side(self) -> Tensor | None:
        """Return the matrix that the initialisation sets to zero, None when it has none."""
        return next((side for side in (self.up, self.down) if side.zero_at_init), None)

    @property
    def is_stacked(self) -> bool:
        """Tell whether the first axis of both counts experts."""
        up, down = self.up.shape, self.down.shape
        if len(up) != _STACKED_AXES or len(down) != _STACKED_AXES:
            return False
        return (up[0], up[2]) == down[:2] and up[1] != down[0]

    @property
    def rank(self) -> int:
        """Return the rank, 0 of a matrix without axes."""
        shape = self.down.shape[1:] if self.is_stacked else self.down.shape
        return shape[0] if shape else 0

    @property
    def features(self) -> tuple[int | None, int | None]:
        """Return the outputs and the inputs of the weight that is changed."""
        up, down = self.up.shape, self.down.shape
        if self.is_stacked:
            return up[1], down[2]
        return up[0] if up else None, down[1] if len(down) > 1 else None


def find_pairs(tensors: Iterable[Tensor]) -> tuple[Pair, ...]:
    """Return the modules that have an up and a down matrix, in the file's order."""
    by_module: dict[str, dict[str, Tensor]] = {}
    for tensor in tensors:
        label = _MIDDLE if _MIDDLE in tensor.name.split(".") else tensor.role
        by_module.setdefault(tensor.module, {}).setdefault(label, tensor)
    return tuple(
        Pair(
            module,
            roles["lora_up"],
            roles["lora_down"],
            roles.get("alpha"),
            "lora_mid" in roles,
            roles.get(_MIDDLE),
        )
        for module, roles in by_module.items()
        if "lora_up" in roles and "lora_down" in roles
    )


def component_of(module: str) -> str:
    """Return the part of the model a module lies in: ``unet``, ``text_encoder``, ``model``, ``""``.

    It is the first segment of a dotted path; kohya's flat names carry it as a prefix.
    """
    head, dot, _rest = module.partition(".")
    if dot:
        return _COMPONENTS.get(head, head)
    prefix = "_".join(module.split("_", 2)[:2])
    return _COMPONENTS.get(prefix, "")


def pair_row(
    pair: Pair, moments: Mapping[str, Moments], adapter: AdapterConfig | None, size: Size
) -> dict[str, object]:
    """Return one row of the table ``pairs``, its columns in no particular order.

    ``moments`` are the tensors' by name; ``size`` is that of the product without its scale.
    """
    up, down = moments[pair.up.name], moments[pair.down.name]
    on_parameter = is_parameter(pair.module, adapter)
    rank = rank_of(pair.module, adapter) if on_parameter else pair.rank
    alpha, scale = scale_of(pair.module, rank or 0, alpha_value(pair.alpha, moments), adapter)
    outputs, inputs = pair.features
    side = pair.zero_side
    # The matrices of several experts side by side are not one product.
    product, stable = size if rank == pair.rank else (None, None)
    return {
        "module": pair.module,
        "family": pair.up.family,
        "component": component_of(pair.module),
        "up": pair.up.name,
        "down": pair.down.name,
        "up_dtype": pair.up.dtype,
        "down_dtype": pair.down.dtype,
        "rank": rank,
        "alpha": alpha,
        "scale": scale,
        "zero_side": side.name if side else None,
        "zero_side_zero_count": moments[side.name].zero_count if side else None,
        "zero_side_numel": side.numel if side else None,
        "up_l2": up.l2,
        "down_l2": down.l2,
        "up_rms": _rms(up),
        "down_rms": _rms(down),
        "in_features": inputs,
        "out_features": outputs,
        "norm": _scaled(product, scale),
        "stable_rank": stable,
        "base_norm": None,
    }


def alpha_value(alpha: Tensor | None, moments: Mapping[str, Moments]) -> float | None:
    """Return the number in a module's own alpha tensor, None when it has no such tensor."""
    if alpha is None or alpha.numel != 1:
        return None
    # Of one value the least is the value; integers, which diffusers writes, have no mean.
    return moments[alpha.name].min


def _rms(moments: Moments) -> float | None:
    if moments.l2 is None:
        return None
    return moments.l2 / math.sqrt(moments.finite_count)


def _scaled(product: float | None, scale: float | None) -> float | None:
    norm = math.inf if product is None or scale is None else abs(scale) * product
    return norm if math.isfinite(norm) else None
