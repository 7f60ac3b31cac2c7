"""Every adapter family of PEFT: its configuration, and what its file holds over one Llama layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from corpus.case import Pair

Q_AND_V = frozenset({"model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj"})

_PROMPT = {"target_modules": None, "num_virtual_tokens": 3}
_LORA = frozenset({(4, 8.0, 2.0)})


def _nothing() -> Mapping[str, object]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One way to configure an adapter.

    ``idle`` says whether it begins without any effect that its file shows, None where no file
    could show that. ``inputs`` are what its forward pass asks for beside the tokens, as lists of
    numbers. ``needs`` are modules that PEFT imports for it.
    """

    config: str
    family: str
    roles: Mapping[str, int]
    options: Mapping[str, object] = field(default_factory=_nothing)
    idle: bool | None = True
    modules: frozenset[str] = Q_AND_V
    pairs: frozenset[Pair] = frozenset()
    settings: Mapping[str, object] = field(default_factory=_nothing)
    inputs: Mapping[str, object] = field(default_factory=_nothing)
    needs: tuple[str, ...] = ()


def _lora(
    *, idle: bool = True, roles: Mapping[str, int] = MappingProxyType({}), **options: object
) -> Family:
    init = options.get("init_lora_weights", "default")
    return Family(
        config="LoraConfig",
        family="lora",
        options={"r": 4, "lora_alpha": 8, **options},
        roles={"lora_up": 2, "lora_down": 2, **roles},
        pairs=_LORA,
        idle=idle,
        settings={
            "adapter.method": "dora" if "use_dora" in options else "lora",
            "adapter.rank": 4,
            "adapter.alpha": 8.0,
            "adapter.init": str(init).lower(),
            "precision.adapter": "fp32",
        },
    )


def _other(
    config: str,
    count: int,
    *,
    idle: bool | None = True,
    **options: object,
) -> Family:
    """A family whose tensors have no role but `adapter`, named as its configuration."""
    return Family(
        config=config,
        family=config.removesuffix("Config").lower(),
        roles={"adapter": count},
        options=options,
        idle=idle,
    )


def _prompt(family: str, config: str, count: int = 1, **options: object) -> Family:
    return Family(
        config=config,
        family=family,
        roles={"adapter": count},
        options={**_PROMPT, **options},
        idle=None,
        modules=frozenset(),
    )


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "lora": _lora(),
        "lora-gaussian": _lora(init_lora_weights="gaussian"),
        "lora-mica": _lora(init_lora_weights="mica"),
        "lora-bias": _lora(lora_bias=True, roles={"bias": 2}),
        "lora-pissa": _lora(idle=False, init_lora_weights="pissa"),
        "lora-pissa-niter": _lora(idle=False, init_lora_weights="pissa_niter_4"),
        "lora-olora": _lora(idle=False, init_lora_weights="olora"),
        "lora-orthogonal": _lora(idle=False, init_lora_weights="orthogonal"),
        "lora-random": _lora(idle=False, init_lora_weights=False),
        "lora-embedding": Family(
            config="LoraConfig",
            family="lora",
            options={"r": 4, "target_modules": ["embed_tokens"]},
            roles={"lora_up": 1, "lora_down": 1, "base": 1},
            modules=frozenset({"model.embed_tokens"}),
            pairs=_LORA,
        ),
        "lora-tokens": Family(
            config="LoraConfig",
            family="lora+trainable_tokens",
            options={"r": 4, "trainable_token_indices": [1, 2]},
            roles={"lora_up": 2, "lora_down": 2, "adapter": 1},
            modules=Q_AND_V | {"model.embed_tokens"},
            pairs=_LORA,
        ),
        "lora-head": _lora(modules_to_save=["lm_head"], roles={"modules_to_save": 1}),
        "lora-velora": Family(
            config="LoraConfig",
            family="lora",
            options={"r": 4, "velora_config": {}},
            roles={"lora_up": 2, "lora_down": 2, "adapter": 2},
            pairs=_LORA,
        ),
        "rslora": Family(
            config="LoraConfig",
            family="lora",
            options={"r": 4, "lora_alpha": 8, "use_rslora": True},
            roles={"lora_up": 2, "lora_down": 2},
            pairs=frozenset({(4, 8.0, 4.0)}),
            settings={"adapter.rslora": True},
        ),
        "lora-patterns": Family(
            config="LoraConfig",
            family="lora",
            options={
                "r": 4,
                "lora_alpha": 8,
                "rank_pattern": {"q_proj": 2},
                "alpha_pattern": {r".*\.v_proj": 3},
            },
            roles={"lora_up": 2, "lora_down": 2},
            pairs=frozenset({(2, 8.0, 4.0), (4, 3.0, 0.75)}),
        ),
        "dora": _lora(use_dora=True, roles={"magnitude": 2}),
        "adalora": Family(
            config="AdaLoraConfig",
            family="adalora",
            options={"init_r": 4, "total_step": 10},
            roles={"lora_up": 2, "lora_down": 2, "adapter": 2},
            pairs=_LORA,
        ),
        "loha": _other("LoHaConfig", 8, r=4),
        "lokr": _other("LoKrConfig", 6, r=2),
        "lokr-decomposed": _other("LoKrConfig", 8, r=1, decompose_both=True, decompose_factor=4),
        "lokr-as-lycoris": _other("LoKrConfig", 6, r=2, init_weights="lycoris"),
        "oft": _other("OFTConfig", 2, oft_block_size=4),
        "boft": _other("BOFTConfig", 4, boft_block_size=4),
        "ia3": _other("IA3Config", 2, feedforward_modules=[]),
        "vera": _other("VeraConfig", 6, r=4),
        "pvera": _other("PveraConfig", 6, r=4),
        "vblora": _other("VBLoRAConfig", 5, idle=None, num_vectors=8, vector_length=8, topk=2),
        "vblora-topk": _other(
            "VBLoRAConfig",
            9,
            idle=None,
            num_vectors=8,
            vector_length=8,
            topk=2,
            save_only_topk_weights=True,
        ),
        "randlora": _other("RandLoraConfig", 10, r=8),
        "fourierft": _other("FourierFTConfig", 2, idle=False, n_frequency=16),
        "fourierft-at-zero": _other("FourierFTConfig", 2, n_frequency=16, init_weights=True),
        "waveft": _other("WaveFTConfig", 2, n_frequency=16),
        "c3a": _other("C3AConfig", 2, idle=False, block_size=8),
        "hra": _other("HRAConfig", 2, r=4),
        "miss": _other("MissConfig", 2, r=4),
        "miss-bat": _other("MissConfig", 2, r=4, init_weights="bat"),
        "shira": _other("ShiraConfig", 4, r=4),
        "road": _other("RoadConfig", 4, group_size=8),
        "delora": _other("DeloraConfig", 8, r=4),
        "gralora": _other("GraloraConfig", 4, r=4),
        "hira": _other("HiraConfig", 4, r=4),
        "glora": _other("GloraConfig", 14, r=4),
        "lily": _other("LilyConfig", 6, r=4),
        "poly": Family(
            config="PolyConfig",
            family="poly",
            options={"r": 4, "n_tasks": 2},
            roles={"adapter": 6},
            inputs={"task_ids": [0, 1]},
        ),
        "peanut": _other("PeanutConfig", 4, r=4),
        "beft": _other("BeftConfig", 2),
        "psoft": _other("PsoftConfig", 6, r=4),
        "supertuning": _other("SupertuningConfig", 8, r=4),
        "tinylora": _other("TinyLoraConfig", 8, r=4),
        "unilora": Family(
            config="UniLoraConfig",
            family="unilora",
            roles={"adapter": 1},
            idle=None,
            modules=frozenset(),
        ),
        "deft": _other("DeftConfig", 4, idle=None, r=4),
        "frod": _other("FrodConfig", 10, idle=None),
        "osf": _other("OSFConfig", 6, idle=None),
        "adamss": Family(
            config="AdamssConfig",
            family="adamss",
            options={"r": 8},
            roles={"adapter": 22},
            needs=("sklearn",),
        ),
        "shadow": Family(
            config="ShadowConfig",
            family="shadow",
            options={"r": 4, "target_modules": None},
            roles={"adapter": 20},
            modules=frozenset({"model.layers.0"}),
        ),
        "adaption-prompt": Family(
            config="AdaptionPromptConfig",
            family="adaption_prompt",
            options={"adapter_len": 2, "adapter_layers": 1, "target_modules": None},
            roles={"adapter": 2},
            modules=frozenset({"model.layers.0.self_attn"}),
        ),
        "layer-norms": Family(
            config="LNTuningConfig",
            family="ln_tuning",
            options={"target_modules": ["input_layernorm"]},
            roles={"adapter": 1},
            idle=None,
            modules=frozenset({"model.layers.0.input_layernorm"}),
        ),
        "tokens": Family(
            config="TrainableTokensConfig",
            family="trainable_tokens",
            options={"token_indices": [1, 2], "target_modules": ["embed_tokens"]},
            roles={"adapter": 1},
            idle=None,
            modules=frozenset({"model.embed_tokens"}),
        ),
        "prompt": _prompt("prompt_tuning", "PromptTuningConfig"),
        "prefix": _prompt("prefix_tuning", "PrefixTuningConfig"),
        "p-tuning": _prompt("p_tuning", "PromptEncoderConfig"),
        "cartridge": _prompt("cartridge", "CartridgeConfig"),
        "cpt": Family(
            config="CPTConfig",
            family="cpt",
            options={
                "target_modules": None,
                "cpt_token_ids": [1, 2, 3],
                "cpt_mask": [1, 1, 1],
                "cpt_tokens_type_mask": [1, 2, 3],
            },
            roles={"adapter": 1},
            idle=None,
            modules=frozenset(),
        ),
        "multitask-prompt": Family(
            config="MultitaskPromptTuningConfig",
            family="multitask_prompt_tuning",
            options={**_PROMPT, "num_tasks": 2},
            roles={"adapter": 3},
            idle=None,
            modules=frozenset(),
            inputs={"task_ids": [0, 1]},
        ),
    }
)
"""Those without further options target the query and value projections."""
