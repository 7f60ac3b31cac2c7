"""What LyCORIS writes: each algorithm over a convolution, two linear layers and a norm."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from corpus import official
from corpus.case import Case, Pair, Truth
from corpus.models import seed_torch

if TYPE_CHECKING:
    import numpy as np

MODULES = frozenset({"lycoris_0", "lycoris_2", "lycoris_3", "lycoris_4"})
SETTINGS = {"linear_dim": 4, "linear_alpha": 2.0, "conv_dim": 4, "conv_alpha": 2.0}

_NONE: Mapping[str, object] = MappingProxyType({})
_PAIRS: frozenset[Pair] = frozenset({(4, 2.0, 0.5)})
_LORA = MappingProxyType({"lora_up": 3, "lora_down": 3, "alpha": 3, "adapter": 2})


@dataclass(frozen=True, slots=True)
class Algorithm:
    """What LyCORIS is asked for, and what its file holds; the norm's two tensors are `adapter`."""

    options: Mapping[str, object]
    family: str
    roles: Mapping[str, int]
    pairs: frozenset[Pair] = field(default=frozenset())


def _locon(more: Mapping[str, int] = MappingProxyType({}), **options: object) -> Algorithm:
    return Algorithm({"algo": "locon", **options}, "lora+norm", {**_LORA, **more}, _PAIRS)


def _of(algo: str, family: str, adapter: int, *, alpha: int = 3, **options: object) -> Algorithm:
    roles = {"adapter": adapter + 2, **({"alpha": alpha} if alpha else {})}
    if options.get("dora_wd"):
        roles["magnitude"] = 3
    joined = "+".join(sorted((family, "norm")))
    return Algorithm({"algo": algo, **options}, joined, roles)


ALGORITHMS: Mapping[str, Algorithm] = MappingProxyType(
    {
        "locon": _locon(),
        "locon-tucker": _locon({"lora_mid": 1}, use_tucker=True),
        "locon-scalar": _locon(use_scalar=True),
        "dora": _locon({"magnitude": 3}, dora_wd=True),
        "dylora": Algorithm({"algo": "dylora"}, "lora+norm", _LORA, _PAIRS),
        "loha": _of("loha", "loha", 12),
        "loha-tucker": _of("loha", "loha", 14, use_tucker=True),
        "loha-scalar": _of("loha", "loha", 12, use_scalar=True),
        "loha-dora": _of("loha", "loha", 12, dora_wd=True),
        "lokr": _of("lokr", "lokr", 7),
        "lokr-scalar": _of("lokr", "lokr", 7, use_scalar=True),
        "lokr-dora": _of("lokr", "lokr", 7, dora_wd=True),
        "lokr-decomposed": _of("lokr", "lokr", 8, decompose_both=True, factor=4, linear_dim=2),
        "lokr-full": _of("lokr", "lokr", 6, linear_dim=10000, full_matrix=True),
        "oft": _of("diag-oft", "oft", 3),
        "oft-rescaled": _of("diag-oft", "oft", 6, rescaled=True),
        "boft": _of("boft", "oft", 6, rescaled=True),
        "full": _of("full", "full", 6, alpha=0),
        "glora": _of("glora", "glora", 12),
        "ia3": _of("ia3", "ia3", 6, alpha=0),
    }
)


def network_of(algorithm: Algorithm) -> tuple[Any, Any]:
    """Return a small net and the LyCORIS network over it."""
    torch = importlib.import_module("torch")
    lycoris = importlib.import_module("lycoris")
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 8 * 8, 32),
        torch.nn.LayerNorm(32),
        torch.nn.Linear(32, 16),
    )
    lycoris.LycorisNetwork.apply_preset({"target_module": ["Linear", "Conv2d", "LayerNorm"]})
    network = lycoris.create_lycoris(net, 1.0, train_norm=True, **{**SETTINGS, **algorithm.options})
    network.apply_to()
    return net, network


def learn(net: Any, network: Any, steps: int = 3) -> None:
    """Make some real updates of the network."""
    torch = importlib.import_module("torch")
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    seen, wanted = torch.randn(4, 3, 8, 8), torch.randn(4, 16)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(net(seen), wanted).backward()
        optimizer.step()


def save(
    algorithm: Algorithm,
    name: str,
    place: Path,
    rng: np.random.Generator,
    *,
    steps: int = 3,
    dtype: str = "float32",
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write one file after ``steps`` updates, with what sd-scripts adds as metadata."""
    torch = seed_torch(rng)
    net, network = network_of(algorithm)
    if steps:
        learn(net, network, steps)
    scalar = str(bool(algorithm.options.get("use_scalar")))
    told = {"ss_network_args": json.dumps({"use_scalar": scalar}), **metadata}
    network.save_weights(str(place / name), getattr(torch, dtype), told)
    return place / name


def truth_of(algorithm: Algorithm, **changes: Any) -> Truth:
    """What holds for an algorithm's file after some updates."""
    known: dict[str, Any] = {
        "layout": "kohya",
        "roles": algorithm.roles,
        "family": algorithm.family,
        "modules": MODULES,
        "pairs": algorithm.pairs,
        "idle": False,
    }
    return Truth(**{**known, **changes})


TRAINED = {
    "ss_network_module": "lycoris.kohya",
    "ss_network_dim": "4",
    "ss_network_alpha": "2.0",
    "ss_steps": "400",
    "ss_epoch": "2",
    "ss_lr_warmup_steps": "100",
    "ss_optimizer": "torch.optim.adamw.AdamW",
    "ss_mixed_precision": "bf16",
}
"""What sd-scripts says in the metadata beside weights that LyCORIS wrote."""

_TOLD: Mapping[str, Any] = MappingProxyType(
    {
        "trainer": "sd-scripts",
        "step": 400,
        "epoch": 2.0,
        "updates_done": 300,
        "settings": {
            "adapter.method": "lora",
            "adapter.rank": 4.0,
            "optimizer.name": "adamw",
            "precision.mixed": "bf16",
        },
    }
)
_BASE: Mapping[str, Any] = MappingProxyType(
    {"writer": "lycoris-lora", "needs": ("lycoris",), "read": official.safetensors}
)


def _algorithms() -> Iterator[Case]:
    doubt = {"verdict": "suspect", "findings": frozenset({"dead-lora-up"}), "idle": True}
    dead = {**doubt, "verdict": "faulty", "usable": ()}
    for name, algorithm in ALGORITHMS.items():
        file = f"{name}.safetensors"
        yield Case(
            id=f"lycoris/{name}",
            write=partial(save, algorithm, file),
            truth=truth_of(algorithm),
            **_BASE,
        )
        yield Case(
            id=f"lycoris/{name}-start",
            write=partial(save, algorithm, file, steps=0),
            truth=truth_of(algorithm, **doubt),
            slow=True,
            **_BASE,
        )
        yield Case(
            id=f"lycoris/{name}-dead",
            write=partial(save, algorithm, file, steps=0, metadata=TRAINED),
            truth=truth_of(algorithm, **dead, **_TOLD),
            fault="no effect after updates",
            slow=name != "locon",
            **_BASE,
        )


CASES: tuple[Case, ...] = (
    *_algorithms(),
    Case(
        id="lycoris/locon-of-sd-scripts",
        write=partial(save, ALGORITHMS["locon"], "cat.safetensors", metadata=TRAINED),
        truth=truth_of(ALGORITHMS["locon"], **_TOLD),
        **_BASE,
    ),
    *(
        Case(
            id=f"lycoris/locon-{dtype}",
            write=partial(save, ALGORITHMS["locon"], "cat.safetensors", dtype=dtype),
            truth=truth_of(ALGORITHMS["locon"]),
            **_BASE,
        )
        for dtype in ("float16", "bfloat16")
    ),
    Case(
        id="lycoris/locon-pickled",
        write=partial(save, ALGORITHMS["locon"], "cat.pt"),
        truth=truth_of(
            ALGORITHMS["locon"],
            layout="unknown",
            verdict="suspect",
            findings=frozenset({"unknown-layout"}),
        ),
        writer="lycoris-lora",
        needs=("lycoris",),
        read=official.torch_file,
        named=True,
    ),
)
