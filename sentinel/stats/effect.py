"""What each adapted module changes, family by family: whether nothing at all, and how much.

A change is a sum of terms and a term a product of factors. A factor is neutral when it is
exactly zero, or exactly one where the family multiplies with it; a term with a neutral factor
changes nothing, and a module whose terms all change nothing is idle. That is a count on the
bytes, without a threshold, and does not depend on which factor a library starts at zero.

DoRA's magnitude is not among the factors: it is the norm of the base weight at first, which the
file does not tell.

Sources: `get_delta_weight` in peft/tuners/*/layer.py of https://github.com/huggingface/peft and
in lycoris/modules/*.py of https://github.com/KohakuBlueleaf/LyCORIS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sentinel.stats.bands import row_bytes
from sentinel.stats.effect_norms import NORMS
from sentinel.stats.gram import row_pieces
from sentinel.stats.pairs import component_of

if TYPE_CHECKING:
    from sentinel.checkpoint import AdapterConfig, Tensor
    from sentinel.stats.moments import Moments
    from sentinel.stats.reading import MemberFile

Term = tuple[str, ...]

TERMS: Mapping[str, tuple[Term, ...]] = MappingProxyType(
    {
        "lora": (("lora_up", "lora_mid", "lora_down"), ("lora_bias",)),
        "adalora": (("lora_up", "lora_E", "lora_down"),),
        "loha": (("hada_w2_b", "hada_w2_a", "hada_w1_a", "hada_w1_b", "hada_t1", "hada_t2"),),
        "lokr": (
            ("lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w2_b", "lokr_w1_b", "lokr_w2_a", "lokr_t2"),
        ),
        "oft": (("oft_R", "oft_blocks"), ("rescale",)),
        "boft": (("boft_R", "oft_blocks"), ("boft_s",), ("rescale",)),
        "hra": (("hra_u",),),
        "ia3": (("ia3_l", "weight"),),
        "vera": (("vera_lambda_b", "vera_lambda_d"),),
        "pvera": (("pvera_lambda_b", "pvera_lambda_d"),),
        "randlora": (("randlora_lambda", "randlora_gamma"),),
        "fourierft": (("fourierft_spectrum",),),
        "waveft": (("waveft_spectrum",),),
        "c3a": (("c3a_kernel",),),
        "miss": (("miss_block",),),
        "bone": (("bone_block",),),
        "shira": (("shira_weight",),),
        "road": (("road_theta",), ("road_alpha",)),
        "delora": (("delora_B", "delora_A", "delora_lambda"),),
        "gralora": (("gralora_B", "gralora_A"), ("gralora_B_general", "gralora_A_general")),
        "hira": (("hira_B", "hira_A"), ("hira_embedding_A", "hira_embedding_B")),
        "glora": (
            *((f"glora_{name}.Xd", f"glora_{name}.Xu") for name in "ABCDE"),
            *((f"glora_{name}",) for name in "ABCDE"),
            ("a2", "a1"),
            ("b2", "b1"),
        ),
        "adamss": (("adamss_B", "adamss_A"),),
        "shadow": (("shadow_up", "shadow_down"),),
        "lily": (("lily_B",),),
        "poly": (("poly_lora_B", "poly_lora_A"),),
        "peanut": (("peanut_B", "peanut_A"),),
        "beft": (("beft_bias",),),
        "adaption_prompt": (("adaption_gate",),),
        "psoft": (("psoft_R",), ("psoft_R.vector_a",), ("psoft_R.vector_b",)),
        "supertuning": (("supertuning_lora_B", "supertuning_lora_A"), ("supertuning_values",)),
        "tinylora": (("tinylora_v",),),
        # Its one zero side stands beside another that starts at the base's own singular values.
        "frod": (),
        "full": (("diff",), ("diff_b",)),
        "norm": (("w_norm",), ("b_norm",)),
    }
)
"""Family → its terms, in each the factor that usually starts neutral first.

Families that are not here have no neutral state that their file shows: a prompt, a copy of an
embedding or of a norm, a vector bank.
"""

_ONES = frozenset(
    {"ia3_l", "boft_s", "rescale", "road_alpha", "psoft_R.vector_a", "psoft_R.vector_b"}
)
_SWITCHES = frozenset({"oft_R.scaled_oft"})
"""Tensors of one element that tell how a module is computed: no factors of what it adds."""

_LABELS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        family: _SWITCHES.union(name for term in terms for name in term)
        for family, terms in TERMS.items()
    }
)
_PAIRED = frozenset({"lora", "adalora"})
_LONGEST_ROW_BYTES = 1024 * 1024
_ROLES = frozenset({"lora_up", "lora_mid", "lora_down", "magnitude", "adapter", "bias", "alpha"})


class Factor(NamedTuple):
    """One tensor of a term: whether it is neutral now (None: unknown), and was at the start."""

    tensor: Tensor
    neutral: bool | None
    starts: bool


def starts_at_one(tensor: Tensor) -> bool:
    """Tell whether a tensor is a factor that its family begins at exactly one."""
    return _label(tensor, _LABELS.get(tensor.family, frozenset())) in _ONES


def effect_rows(
    tensors: Iterable[Tensor],
    moments: Mapping[str, Moments],
    adapter: AdapterConfig | None,
    open_member: Callable[[str], MemberFile],
    *,
    pair_norms: Mapping[str, object],
    quick: bool = False,
) -> list[dict[str, object]]:
    """Return the rows of the table ``effects``, one an adapted module that can be idle.

    ``pair_norms`` are the norms that `pair_row` found, by module; ``quick`` looks for no others.
    """
    rows = []
    for module, members in _by_module(tensors).items():
        family = _family(members)
        terms = _terms(members, family, moments, open_member)
        if not terms:
            continue
        idle = _all(_any(factor.neutral for factor in term) for term in terms)
        keeper = min(terms[0], key=_rank)
        norm: object = 0.0 if idle else None
        if not idle and family in _PAIRED:
            norm = pair_norms.get(module)
        elif not idle and not quick and family in NORMS:
            norm = NORMS[family](module, _labelled(members, family), moments, adapter, open_member)
        rows.append(
            {
                "module": module,
                "family": family,
                "component": component_of(module),
                "tensor": keeper.tensor.name,
                "role": keeper.tensor.role,
                "dtype": keeper.tensor.dtype,
                "starts_idle": keeper.starts,
                "idle": idle,
                "norm": norm,
            }
        )
    return rows


def _by_module(tensors: Iterable[Tensor]) -> dict[str, list[Tensor]]:
    found: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        if tensor.family and tensor.role in _ROLES:
            found.setdefault(tensor.module, []).append(tensor)
    return found


def _family(members: Sequence[Tensor]) -> str:
    """Return the family of a module: alpha and magnitude go with any."""
    own = (tensor.family for tensor in members if tensor.role not in {"alpha", "magnitude"})
    return next(own, "")


def _labelled(members: Iterable[Tensor], family: str) -> dict[str, list[Tensor]]:
    found: dict[str, list[Tensor]] = {}
    for tensor in members:
        label = _label(tensor, _LABELS.get(family, frozenset()))
        found.setdefault(label, []).append(tensor)
    return found


def _label(tensor: Tensor, known: frozenset[str]) -> str:
    """Return which factor of its family a tensor is."""
    if tensor.role == "bias":
        return "lora_bias"
    if tensor.role != "adapter":
        return tensor.role
    segments = tensor.name.split(".")
    for at in range(len(segments) - 1, -1, -1):
        for label in (".".join(segments[at : at + 2]), segments[at]):
            if label in known:
                return label
    return ""


def _terms(
    members: Sequence[Tensor],
    family: str,
    moments: Mapping[str, Moments],
    open_member: Callable[[str], MemberFile],
) -> list[list[Factor]]:
    """Return the terms a module has; a family nobody described has its zero sides as terms."""
    labelled = _labelled(members, family)
    if family == "hra":
        return [
            [Factor(t, _cancels(t, moments, open_member), starts=True)] for t in labelled["hra_u"]
        ]
    if family not in TERMS:
        sides = (tensor for tensor in members if tensor.zero_at_init)
        return [[_factor(tensor, "", moments)] for tensor in sides]
    terms = (
        [_together([_factor(t, label, moments) for t in labelled[label]]) for label in present]
        for term in TERMS[family]
        if (present := [label for label in term if label in labelled])
    )
    return list(terms)


def _factor(tensor: Tensor, label: str, moments: Mapping[str, Moments]) -> Factor:
    found = moments[tensor.name]
    if label in _ONES:
        return Factor(tensor, _is_one(found), starts=True)
    neutral = (
        None if found.zero_count is None or not found.numel else found.zero_count == found.numel
    )
    return Factor(tensor, neutral, tensor.zero_at_init)


def _together(same: Sequence[Factor]) -> Factor:
    """Return several tensors of one name (several adapters, experts) as one factor."""
    neutral = _all(factor.neutral for factor in same)
    kept = same[0] if neutral else min(same, key=lambda one: one.neutral is True)
    return Factor(kept.tensor, neutral, kept.starts)


def _is_one(found: Moments) -> bool | None:
    if found.nan_count is None or not found.numel:
        return None
    return not found.nan_count and not found.inf_count and found.min == found.max == 1.0


def _cancels(
    tensor: Tensor, moments: Mapping[str, Moments], open_member: Callable[[str], MemberFile]
) -> bool | None:
    """Tell whether Householder reflections [in, r] come in equal pairs, which undo each other.

    So PEFT initialises them: peft/tuners/hra/layer.py (`reset_hra_parameters`).
    """
    if moments[tensor.name].nan_count is None or not tensor.numel or not tensor.is_plain:
        return None
    if row_bytes(tensor) > _LONGEST_ROW_BYTES:
        return None
    if len(tensor.shape) != 2 or tensor.shape[1] % 2:  # noqa: PLR2004 - a matrix; pairs
        return False
    pieces = row_pieces(tensor, open_member)
    return all(np.array_equal(piece[:, ::2], piece[:, 1::2]) for piece in pieces)


def _rank(factor: Factor) -> tuple[bool, bool]:
    """Return what orders the factors: who keeps the module idle first, then who did at first."""
    return (factor.neutral is not True, not factor.starts)


def _any(values: Iterable[bool | None]) -> bool | None:
    known = list(values)
    return True if True in known else None if None in known else False


def _all(values: Iterable[bool | None]) -> bool | None:
    known = list(values)
    return False if False in known else None if None in known else True
