"""Every adapter family PEFT has, written by PEFT: at the start without effect, after training not.

The start is no fault at 0 updates and dead after some; what was trained is neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sentinel.flow import Inspected, conclude
from sentinel.formats.opening import open_checkpoint
from sentinel.rules.load import load_rules
from sentinel.stats.measure import measure

pytestmark = pytest.mark.trainer

TARGETS = ["q_proj", "v_proj"]
PROMPT = {"num_virtual_tokens": 3}
IDLE_AT_START: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("LoraConfig", {"r": 4}),
    "lora gaussian": ("LoraConfig", {"r": 4, "init_lora_weights": "gaussian"}),
    "lora mica": ("LoraConfig", {"r": 4, "init_lora_weights": "mica"}),
    "lora bias": ("LoraConfig", {"r": 4, "lora_bias": True}),
    "lora embedding": ("LoraConfig", {"r": 4, "target_modules": ["embed_tokens"]}),
    "dora": ("LoraConfig", {"r": 4, "use_dora": True}),
    "adalora": ("AdaLoraConfig", {"init_r": 4, "total_step": 10}),
    "loha": ("LoHaConfig", {"r": 4}),
    "lokr": ("LoKrConfig", {"r": 2}),
    "lokr decomposed": (
        "LoKrConfig",
        {"r": 1, "decompose_both": True, "decompose_factor": 4},
    ),
    "lokr as lycoris": ("LoKrConfig", {"r": 2, "init_weights": "lycoris"}),
    "oft": ("OFTConfig", {"oft_block_size": 4}),
    "boft": ("BOFTConfig", {"boft_block_size": 4}),
    "ia3": ("IA3Config", {"feedforward_modules": []}),
    "vera": ("VeraConfig", {"r": 4}),
    "pvera": ("PveraConfig", {"r": 4}),
    "randlora": ("RandLoraConfig", {"r": 8}),
    "fourierft at zero": ("FourierFTConfig", {"n_frequency": 16, "init_weights": True}),
    "waveft": ("WaveFTConfig", {"n_frequency": 16}),
    "hra": ("HRAConfig", {"r": 4}),
    "miss": ("MissConfig", {"r": 4}),
    "miss bat": ("MissConfig", {"r": 4, "init_weights": "bat"}),
    "shira": ("ShiraConfig", {"r": 4}),
    "road": ("RoadConfig", {"group_size": 8}),
    "delora": ("DeloraConfig", {"r": 4}),
    "gralora": ("GraloraConfig", {"r": 4}),
    "hira": ("HiraConfig", {"r": 4}),
    "glora": ("GloraConfig", {"r": 4}),
    "lily": ("LilyConfig", {"r": 4}),
    "peanut": ("PeanutConfig", {"r": 4}),
    "beft": ("BeftConfig", {}),
    "psoft": ("PsoftConfig", {"r": 4}),
    "supertuning": ("SupertuningConfig", {"r": 4}),
    "tinylora": ("TinyLoraConfig", {"r": 4}),
    "adaption prompt": (
        "AdaptionPromptConfig",
        {"adapter_len": 2, "adapter_layers": 1, "target_modules": None},
    ),
}
"""What PEFT starts without any effect that the file shows."""

NEVER_IDLE: dict[str, tuple[str, dict[str, Any]]] = {
    "lora pissa": ("LoraConfig", {"r": 4, "init_lora_weights": "pissa"}),
    "lora olora": ("LoraConfig", {"r": 4, "init_lora_weights": "olora"}),
    "lora false": ("LoraConfig", {"r": 4, "init_lora_weights": False}),
    "vblora": ("VBLoRAConfig", {"num_vectors": 8, "vector_length": 8, "topk": 2}),
    "fourierft": ("FourierFTConfig", {"n_frequency": 16}),
    "c3a": ("C3AConfig", {"block_size": 8}),
    "unilora": ("UniLoraConfig", {}),
    "deft": ("DeftConfig", {"r": 4}),
    "osf": ("OSFConfig", {}),
    "layer norms": ("LNTuningConfig", {"target_modules": ["input_layernorm"]}),
    "tokens": (
        "TrainableTokensConfig",
        {"token_indices": [1, 2], "target_modules": ["embed_tokens"]},
    ),
    "prompt": ("PromptTuningConfig", {"target_modules": None, **PROMPT}),
    "prefix": ("PrefixTuningConfig", {"target_modules": None, **PROMPT}),
    "p-tuning": ("PromptEncoderConfig", {"target_modules": None, **PROMPT}),
}
"""What begins with an effect, or with one that only the base could tell."""

_ASKED = ("dead-", "partly-dead-", "adapter-keys-load-nothing")
RULES = tuple(rule for rule in load_rules() if rule.id.startswith(_ASKED))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_llama() -> Any:
    """A Llama of one layer, the same weights each time."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch").manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=32,
        pad_token_id=0,
    )
    return transformers.LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Inspected, ...]]:
    """An adapter over a tiny Llama, read as saved at its start and after three real updates."""
    root = tmp_path_factory.mktemp("families")
    families = {**IDLE_AT_START, **NEVER_IDLE}
    return cache(lambda family: _start_and_trained(root / family, *families[family]))


def _start_and_trained(root: Path, name: str, options: dict[str, Any]) -> tuple[Inspected, ...]:
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    if not hasattr(peft, name):
        pytest.skip(f"this PEFT has no {name}")
    given = {"target_modules": TARGETS, **options}
    given = {key: value for key, value in given.items() if value is not None}
    model = peft.get_peft_model(tiny_llama(), getattr(peft, name)(task_type="CAUSAL_LM", **given))
    model.save_pretrained(root / "start")
    trainable = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=1e-2)
    ids = torch.arange(16).view(2, 8) % 64
    for _ in range(3):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    model.save_pretrained(root / "trained")
    return tuple(_inspect(root / place) for place in ("start", "trained"))


def _inspect(path: Path) -> Inspected:
    checkpoint = open_checkpoint(path)
    return Inspected(checkpoint, measure(checkpoint, digest=False))


def found(inspected: Inspected, *, updates_done: int | None) -> set[str]:
    """The rules about dead adapters, and about keys PEFT passes over, that fire."""
    checkpoint = replace(inspected.checkpoint, updates_done=updates_done)
    verdict = conclude(replace(inspected, checkpoint=checkpoint), rules=RULES).verdict
    return {finding.rule for finding in verdict.findings}


@pytest.mark.parametrize("family", IDLE_AT_START)
def test_a_family_that_starts_without_effect(adapted, family: str) -> None:
    start, trained = adapted(family)

    assert start.measured.effects.num_rows
    assert set(start.measured.effects["idle"].to_pylist()) == {True}
    assert set(trained.measured.effects["idle"].to_pylist()) == {False}
    assert found(start, updates_done=0) == set()
    assert found(start, updates_done=3) == {"dead-lora-up"}
    assert found(trained, updates_done=3) == set()


@pytest.mark.parametrize("family", NEVER_IDLE)
def test_a_family_that_is_never_without_effect(adapted, family: str) -> None:
    start, trained = adapted(family)

    assert not any(start.measured.effects["idle"].to_pylist())
    assert found(start, updates_done=3) == set()
    assert found(trained, updates_done=3) == set()


@pytest.mark.parametrize("family", [*IDLE_AT_START, *NEVER_IDLE])
def test_the_tensors_said_to_start_at_zero_are_those_that_do(adapted, family: str) -> None:
    """PEFT's own file is the judge, and every tensor in it has a role."""
    start, _trained = adapted(family)
    rows = start.measured.tensors.to_pylist()

    zero = {row["tensor"] for row in rows if row["zero_count"] == row["numel"]}

    assert {row["tensor"] for row in rows if row["zero_at_init"]} == zero
    assert not [row["tensor"] for row in rows if row["role"] in {"other", "modules_to_save"}]


@pytest.mark.parametrize("family", ["loha", "lokr", "lokr decomposed", "lora"])
def test_norms_are_those_of_the_change_peft_makes(adapted, family: str) -> None:
    """Gram matrices and products of norms give what the merged weight differs by."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    _start, trained = adapted(family)
    model = peft.PeftModel.from_pretrained(tiny_llama(), trained.checkpoint.path)

    for row in trained.measured.effects.to_pylist():
        layer = model.get_submodule(f"base_model.model.{row['module']}")
        delta = layer.get_delta_weight("default").detach().double()
        assert row["norm"] == pytest.approx(float(torch.linalg.norm(delta)), rel=1e-4)
