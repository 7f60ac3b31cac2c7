"""The tables a rule can see: their columns, types, and how the previous checkpoint is joined.

Types are DuckDB's. Everything a rule file is checked against at load, and everything the
database is filled with at evaluation, comes from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "adapter_init": "VARCHAR",
        "adapter_method": "VARCHAR",
        "adapter_modules_to_save": "VARCHAR",
        "adapter_task": "VARCHAR",
        "base_compute_dtype": "VARCHAR",
        "base_dtype": "VARCHAR",
        "base_path": "VARCHAR",
        "base_quantization": "VARCHAR",
        "device_bf16": "BOOLEAN",
        "device_name": "VARCHAR",
        "device_type": "VARCHAR",
        "optimizer_eps": "DOUBLE",
        "optimizer_learning_rate": "DOUBLE",
        "optimizer_name": "VARCHAR",
        "precision_adapter": "VARCHAR",
        "precision_bf16": "BOOLEAN",
        "precision_fp16": "BOOLEAN",
        "precision_full_bf16": "BOOLEAN",
        "precision_full_fp16": "BOOLEAN",
        "precision_mixed": "VARCHAR",
        "precision_scaler_scale": "DOUBLE",
        "precision_training": "VARCHAR",
        "resume_adapter": "VARCHAR",
        "resume_path": "VARCHAR",
        "resumed_from_path": "VARCHAR",
        "scheduler_last_lr": "DOUBLE",
        "scheduler_name": "VARCHAR",
        "versions_bitsandbytes": "VARCHAR",
        "versions_optimum_quanto": "VARCHAR",
        "versions_peft": "VARCHAR",
        "versions_torch": "VARCHAR",
        "versions_transformers": "VARCHAR",
    }
)
"""Settings of a run as columns of `checkpoint`: the dotted name with underscores."""

GIVEN: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "tensors": {
            "tensor": "VARCHAR",
            "member": "VARCHAR",
            "part": "VARCHAR",
            "module": "VARCHAR",
            "role": "VARCHAR",
            "family": "VARCHAR",
            "zero_at_init": "BOOLEAN",
            "dtype": "VARCHAR",
            "shape": "BIGINT[]",
            "numel": "BIGINT",
            "nan_count": "BIGINT",
            "inf_count": "BIGINT",
            "zero_count": "BIGINT",
            "subnormal_count": "BIGINT",
            "below_fp16": "BIGINT",
            "min": "DOUBLE",
            "max": "DOUBLE",
            "abs_max": "DOUBLE",
            "mean": "DOUBLE",
            "l2": "DOUBLE",
            "digest": "VARCHAR",
            "same_share": "DOUBLE",
        },
        "pairs": {
            "module": "VARCHAR",
            "family": "VARCHAR",
            "component": "VARCHAR",
            "up": "VARCHAR",
            "down": "VARCHAR",
            "up_dtype": "VARCHAR",
            "down_dtype": "VARCHAR",
            "rank": "BIGINT",
            "alpha": "DOUBLE",
            "scale": "DOUBLE",
            "zero_side": "VARCHAR",
            "zero_side_zero_count": "BIGINT",
            "zero_side_numel": "BIGINT",
            "up_l2": "DOUBLE",
            "down_l2": "DOUBLE",
            "up_rms": "DOUBLE",
            "down_rms": "DOUBLE",
            "in_features": "BIGINT",
            "out_features": "BIGINT",
            "norm": "DOUBLE",
            "stable_rank": "DOUBLE",
            "base_norm": "DOUBLE",
        },
        "effects": {
            "module": "VARCHAR",
            "family": "VARCHAR",
            "component": "VARCHAR",
            "tensor": "VARCHAR",
            "role": "VARCHAR",
            "dtype": "VARCHAR",
            "starts_idle": "BOOLEAN",
            "idle": "BOOLEAN",
            "norm": "DOUBLE",
        },
        "checkpoint": {
            "path": "VARCHAR",
            "layout": "VARCHAR",
            "trainer": "VARCHAR",
            "step": "BIGINT",
            "epoch": "DOUBLE",
            "updates_done": "BIGINT",
            "complete": "BOOLEAN",
            "size_bytes": "BIGINT",
            "tensor_count": "BIGINT",
            "has_optimizer": "BOOLEAN",
            "optimizer_step": "DOUBLE",
            "free_bytes": "BIGINT",
            **SETTINGS,
        },
        "optimizer": {
            "tensor": "VARCHAR",
            "part": "VARCHAR",
            "param": "BIGINT",
            "group_index": "BIGINT",
            "step": "DOUBLE",
            "dtype": "VARCHAR",
            "numel": "BIGINT",
            "value_count": "BIGINT",
            "nan_count": "BIGINT",
            "inf_count": "BIGINT",
            "vanished_count": "BIGINT",
            "vanished_share": "DOUBLE",
            "rms": "DOUBLE",
            "eps": "DOUBLE",
        },
        "optimizer_groups": {
            "group_index": "BIGINT",
            "parameter_count": "BIGINT",
            "lr": "DOUBLE",
            "initial_lr": "DOUBLE",
            "eps": "DOUBLE",
            "eps2": "DOUBLE",
            "beta1": "DOUBLE",
            "beta2": "DOUBLE",
            "weight_decay": "DOUBLE",
            "momentum": "DOUBLE",
            "d": "DOUBLE",
            "d0": "DOUBLE",
            "d_max": "DOUBLE",
            "scale_parameter": "BOOLEAN",
            "relative_step": "BOOLEAN",
            "warmup_init": "BOOLEAN",
            "nan_settings": "VARCHAR",
        },
        "config": {"name": "VARCHAR", "value": "VARCHAR", "number": "DOUBLE", "truth": "BOOLEAN"},
        "findings": {
            "rule": "VARCHAR",
            "severity": "VARCHAR",
            "scope": "VARCHAR",
            "safety": "VARCHAR",
            "tensor_count": "BIGINT",
        },
        "metrics": {"step": "BIGINT", "name": "VARCHAR", "value": "DOUBLE"},
        "faults": {
            "rule": "VARCHAR",
            "part": "VARCHAR",
            "member": "VARCHAR",
            "message": "VARCHAR",
        },
        "base": {
            "module": "VARCHAR",
            "tensor": "VARCHAR",
            "dtype": "VARCHAR",
            "scheme": "VARCHAR",
            "compute_dtype": "VARCHAR",
            "out_features": "BIGINT",
            "in_features": "BIGINT",
            "adapter_module": "VARCHAR",
            "norm": "DOUBLE",
            "zero_rows": "BIGINT",
        },
    }
)
"""What the caller gives, without history."""

_NAMING = r"regexp_replace(regexp_extract({}.path, '[^/\\]+$'), '[0-9]+', '*', 'g')"
"""The last part of a path without its numbers. What a trainer writes at its end, for use and not
to be resumed from, is named otherwise than its checkpoints."""

HISTORY: Mapping[str, Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "tensors": {
            "prev_nan_count": ("was.nan_count", "BIGINT"),
            "prev_inf_count": ("was.inf_count", "BIGINT"),
            "prev_zero_count": ("was.zero_count", "BIGINT"),
            "prev_abs_max": ("was.abs_max", "DOUBLE"),
            "prev_l2": ("was.l2", "DOUBLE"),
            "prev_digest": ("was.digest", "VARCHAR"),
            "prev_dtype": ("was.dtype", "VARCHAR"),
            "unchanged": ("now.digest = was.digest", "BOOLEAN"),
        },
        "pairs": {
            "prev_norm": ("was.norm", "DOUBLE"),
            "prev_up_l2": ("was.up_l2", "DOUBLE"),
            "prev_down_l2": ("was.down_l2", "DOUBLE"),
            "prev_stable_rank": ("was.stable_rank", "DOUBLE"),
        },
        "checkpoint": {
            "prev_step": ("was.step", "BIGINT"),
            "prev_updates_done": ("was.updates_done", "BIGINT"),
            "prev_base_quantization": ("was.base_quantization", "VARCHAR"),
            "prev_has_optimizer": ("was.has_optimizer", "BOOLEAN"),
            "prev_optimizer_step": ("was.optimizer_step", "DOUBLE"),
            "prev_layout": ("was.layout", "VARCHAR"),
            "prev_precision_mixed": ("was.precision_mixed", "VARCHAR"),
            "updates_since_prev": ("now.updates_done - was.updates_done", "BIGINT"),
            "is_named_anew": (f"{_NAMING.format('now')} <> {_NAMING.format('was')}", "BOOLEAN"),
        },
    }
)
"""Column → (SQL over the row `now` and the previous checkpoint's row `was`, type)."""

HISTORY_KEYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"tensors": ("part", "tensor"), "pairs": ("module", "family"), "checkpoint": ()}
)
"""What makes a row of the previous checkpoint the same thing; the member may be named anew."""

PAST: tuple[str, ...] = ("tensors", "pairs", "checkpoint")
"""What is known of each earlier checkpoint: as `prev_` columns, and in the tables `past_...`."""

_SAID = {"verdict": "VARCHAR", "weights_usable": "BOOLEAN"}

PAST_TABLES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        f"past_{name}": MappingProxyType(
            {"back": "BIGINT", **GIVEN[name], **(_SAID if name == "checkpoint" else {})}
        )
        for name in PAST
    }
)
"""One row a tensor, pair or checkpoint of the past; ``back`` 1 is the checkpoint before.

Of a checkpoint also what was said of it: its verdict, and whether its weights may be loaded.
"""

TABLES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        **{
            name: MappingProxyType(
                {**columns, **{column: kind for column, (_, kind) in HISTORY.get(name, {}).items()}}
            )
            for name, columns in GIVEN.items()
        },
        **PAST_TABLES,
    }
)
"""Every table as the rules see it, history included."""

FINDINGS = "findings"
"""What the other rules found on this checkpoint; whoever names it is asked after all the others."""

UNKNOWN_WHEN_EMPTY: frozenset[str] = frozenset({"metrics", "base", "config"})
"""Tables whose emptiness means "nobody told us", unlike an adapter that has no pairs."""
