"""Writing with PEFT: adapters of every family, and the ways to initialise and to save one."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus.case import Write
from corpus.families import FAMILIES, Family
from corpus.models import adapted, seed_torch, tiny_llama, tokens, train, trainable

if TYPE_CHECKING:
    import numpy as np

_LORA = FAMILIES["lora"]


def fresh(family: Family, place: Path, rng: np.random.Generator) -> Path:
    """Save an adapter as PEFT initialises it."""
    seed_torch(rng)
    adapted(family).save_pretrained(place)
    return place


def updated(family: Family, place: Path, rng: np.random.Generator, **options: Any) -> Path:
    """Save an adapter after three updates; ``options`` are those of `save_pretrained`."""
    seed_torch(rng)
    model = adapted(family)
    train(model, inputs=family.inputs)
    model.save_pretrained(place, **options)
    return place


def prepared(init: str, prepare: Callable[[Any, Any], None], **options: Any) -> Write:
    """A LoRA whose start PEFT computes from the base's weights, gradients or activations."""

    def write(place: Path, rng: np.random.Generator) -> Path:
        seed_torch(rng)
        peft = importlib.import_module("peft")
        config = peft.LoraConfig(
            r=4,
            lora_alpha=8,
            init_lora_weights=init,
            target_modules=["q_proj", "v_proj"],
            task_type="CAUSAL_LM",
            **{name: getattr(peft, value)() for name, value in options.items()},
        )
        base = tiny_llama()
        prepare(base, config)
        model = peft.get_peft_model(base, config)
        if init == "eva":
            peft.initialize_lora_eva_weights(model, [{"input_ids": tokens()["input_ids"]}] * 4)
        model.save_pretrained(place)
        return place

    return write


def with_gradients(model: Any, config: Any) -> None:
    loraga = importlib.import_module("peft.tuners.lora.loraga")

    def step() -> None:
        model(**tokens()).loss.backward()

    loraga.preprocess_loraga(model, config, train_step=step)


def with_activations(model: Any, config: Any) -> None:
    corda = importlib.import_module("peft.tuners.lora.corda")
    ids = tokens()["input_ids"][:1]
    corda.preprocess_corda(model, config, run_model=lambda: model(input_ids=ids))


def with_nothing(_model: Any, _config: Any) -> None:
    return


def loftq(place: Path, rng: np.random.Generator) -> Path:
    """PEFT computes LoftQ on a CUDA device only; the processor computes the same."""
    torch = seed_torch(rng)
    peft = importlib.import_module("peft")
    with _cuda_is_the_processor(torch):
        loftq = {"init_lora_weights": "loftq", "loftq_config": peft.LoftQConfig(loftq_bits=4)}
        adapted(_LORA, **loftq).save_pretrained(place)
    return place


@contextmanager
def _cuda_is_the_processor(torch: Any) -> Iterator[None]:
    class OnProcessor(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            del types
            given = dict(kwargs or {})
            if given.get("device") == "cuda":
                given["device"] = "cpu"
            kept = tuple("cpu" if isinstance(one, str) and one == "cuda" else one for one in args)
            return function(*kept, **given)

    with OnProcessor():
        yield


def pissa_converted(place: Path, rng: np.random.Generator) -> Path:
    """PiSSA saved as a LoRA of twice the rank over the base as it was."""
    seed_torch(rng)
    model = adapted(FAMILIES["lora-pissa"])
    model.save_pretrained(place / "initial")
    train(model)
    model.save_pretrained(
        place / "converted", path_initial_model_for_weight_conversion=str(place / "initial")
    )
    return place / "converted"


def two_adapters(name: str, place: Path, rng: np.random.Generator) -> Path:
    seed_torch(rng)
    peft = importlib.import_module("peft")
    model = adapted(FAMILIES["lora-random"])
    other = {"r": 2, "lora_alpha": 6, "init_lora_weights": False}
    model.add_adapter("critic", peft.LoraConfig(target_modules=["q_proj"], **other))
    model.save_pretrained(place)
    return place / name


def classifier(dtype: str, place: Path, rng: np.random.Generator) -> Path:
    """A classifier's head beside the adapter, in the precision of the base."""
    torch = seed_torch(rng)
    peft = importlib.import_module("peft")
    base = tiny_llama(head="SequenceClassification").to(getattr(torch, dtype))
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="SEQ_CLS"
    )
    model = peft.get_peft_model(base, config)
    batch = {"input_ids": tokens()["input_ids"], "labels": torch.tensor([0, 1])}
    optimizer = torch.optim.AdamW(trainable(model), lr=1e-3, eps=1e-4)
    with torch.autocast("cpu", getattr(torch, dtype)):
        model(**batch).loss.backward()
    optimizer.step()
    model.save_pretrained(place)
    return place


def in_half(dtype: str, place: Path, rng: np.random.Generator) -> Path:
    """An adapter in the precision of its base (`autocast_adapter_dtype=False`)."""
    torch = seed_torch(rng)
    peft = importlib.import_module("peft")
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    base = tiny_llama().to(getattr(torch, dtype))
    model = peft.get_peft_model(base, config, autocast_adapter_dtype=False)
    train(model, torch.optim.SGD(trainable(model), lr=10.0))
    model.save_pretrained(place)
    return place


def experts(place: Path, rng: np.random.Generator) -> Path:
    """Parameters of a mixture's experts, adapted by themselves, two of one module."""
    seed_torch(rng)
    transformers = importlib.import_module("transformers")
    config = transformers.MixtralConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        num_local_experts=2,
        num_experts_per_tok=1,
        pad_token_id=0,
    )
    names = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    base = transformers.MixtralForCausalLM(config)
    model = adapted(_LORA, base, target_modules=["q_proj"], target_parameters=names)
    train(model)
    model.save_pretrained(place)
    return place


def convolutions(place: Path, rng: np.random.Generator) -> Path:
    torch = seed_torch(rng)
    peft = importlib.import_module("peft")
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.Conv1d(8, 4, 3), torch.nn.MultiheadAttention(8, 2)
    )
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["0", "1", "2"], init_lora_weights=False
    )
    peft.get_peft_model(net, config).save_pretrained(place)
    return place
