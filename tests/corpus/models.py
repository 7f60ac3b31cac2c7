"""Small models, adapters over them and real updates, the same each time for one seed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from corpus.families import Family

if TYPE_CHECKING:
    import numpy as np

HIDDEN, VOCABULARY = 32, 64
NOTHING: Mapping[str, object] = MappingProxyType({})


def seed_torch(rng: np.random.Generator) -> Any:
    """Let torch draw what the generator says, and return torch."""
    torch = importlib.import_module("torch")
    torch.manual_seed(int(rng.integers(2**31)))
    return torch


def tiny_llama(*, layers: int = 1, head: str = "CausalLM", **options: Any) -> Any:
    """A Llama with random weights."""
    transformers = importlib.import_module("transformers")
    given = {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32,
        "pad_token_id": 0,
        **options,
    }
    return getattr(transformers, f"LlamaFor{head}")(transformers.LlamaConfig(**given))


def adapted(family: Family, base: Any = None, **options: object) -> Any:
    """An adapter of a family over a tiny Llama, or over another base."""
    peft = importlib.import_module("peft")
    given = {"target_modules": ["q_proj", "v_proj"], **family.options, **options}
    if "velora_config" in given:
        given["velora_config"] = peft.VeloraConfig()
    known = {name: value for name, value in given.items() if value is not None}
    config = getattr(peft, family.config)(task_type="CAUSAL_LM", **known)
    return peft.get_peft_model(tiny_llama() if base is None else base, config)


def tokens(inputs: Mapping[str, object] = NOTHING) -> dict[str, Any]:
    """Two sentences to learn, with what else the forward pass asks for."""
    torch = importlib.import_module("torch")
    ids = torch.arange(16).view(2, 8) % VOCABULARY
    more = {name: torch.tensor(value) for name, value in inputs.items()}
    return {"input_ids": ids, "labels": ids, **more}


def trainable(model: Any) -> list[Any]:
    """The parameters that learn."""
    return [value for value in model.parameters() if value.requires_grad]


def train(
    model: Any,
    optimizer: Any = None,
    *,
    steps: int = 3,
    inputs: Mapping[str, object] = NOTHING,
) -> Any:
    """Make some real updates of a language model's trainable parameters; return the optimizer."""
    torch = importlib.import_module("torch")
    own = torch.optim.Adam(trainable(model), lr=1e-2) if optimizer is None else optimizer
    batch = tokens(inputs)
    for _ in range(steps):
        own.zero_grad()
        model(**batch).loss.backward()
        own.step()
    return own
