"""What sharded trainings save: torch's distributed checkpoints, Lightning's files, DeepSpeed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from corpus import official
from corpus.case import Case, Truth
from corpus.families import FAMILIES
from corpus.models import adapted, seed_torch, tiny_llama, tokens, train, trainable
from corpus.official import Reference
from corpus.ranks import run_ranks

if TYPE_CHECKING:
    import numpy as np

STEP = 30
LORA = FAMILIES["lora"]


def _dcp(
    place: Path,
    rng: np.random.Generator,
    *,
    adapter: bool = False,
    flat: bool = False,
    **writing: object,
) -> Path:
    """Save a model and its optimizer by `torch.distributed.checkpoint`, one process alone."""
    torch = seed_torch(rng)
    dcp = importlib.import_module("torch.distributed.checkpoint")
    states = importlib.import_module("torch.distributed.checkpoint.state_dict")
    model = adapted(LORA) if adapter else tiny_llama()
    own = train(model, torch.optim.AdamW(trainable(model), lr=1e-2))
    options = states.StateDictOptions(flatten_optimizer_state_dict=flat)
    weights, optimizer = states.get_state_dict(model, own, options=options)
    path = place / f"step-{STEP}"
    writer = dcp.FileSystemWriter(path, **writing)
    dcp.save({"model": weights, "optim": optimizer}, storage_writer=writer, no_dist=True)
    return path


def _read_dcp(path: Path) -> dict[str, Reference]:
    """Let torch put the chunks together."""
    torch = importlib.import_module("torch")
    utils = importlib.import_module("torch.distributed.checkpoint.format_utils")
    whole = path.with_name(".whole.pt")
    utils.dcp_to_torch_save(path, whole)
    tree = torch.load(whole, weights_only=False)["model"]
    return {name: official.of_torch(tensor) for name, tensor in tree.items()}


def _lightning(place: Path, rng: np.random.Generator) -> Path:
    """Train an adapter under Lightning's Trainer."""
    torch = seed_torch(rng)
    lightning = importlib.import_module("pytorch_lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = adapted(LORA)

        def training_step(self, batch: Any, _index: int) -> Any:
            return self.model(input_ids=batch, labels=batch).loss

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(trainable(self), lr=1e-2)

    keeping = lightning.callbacks.ModelCheckpoint(dirpath=place, filename="{epoch}-{step}")
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[keeping],
    )
    data = torch.utils.data.DataLoader(tokens()["input_ids"], batch_size=1)
    trainer.fit(Module(), data)
    return Path(keeping.best_model_path)


def _read_lightning(path: Path) -> dict[str, Reference]:
    torch = importlib.import_module("torch")
    tree = torch.load(path, map_location="cpu", weights_only=False)["state_dict"]
    return {name: official.of_torch(tensor) for name, tensor in tree.items()}


def _deepspeed(stage: int, place: Path, _rng: np.random.Generator) -> Path:
    """Two processes of a training with ZeRO; the program sets its own seed."""
    run_ranks(place, "deepspeed_zero.py", place / "out", stage)
    return place / "out" / "global_step2"


_DCP: Mapping[str, Any] = MappingProxyType(
    {"writer": "torch", "needs": ("torch", "transformers"), "read": _read_dcp}
)
_WHOLE: Mapping[str, Any] = MappingProxyType(
    {
        "layout": "dcp",
        "step": STEP,
        "complete": True,
        "roles": {"other": 12},
        "usable": ("weights", "optimizer"),
        "optimizer_parameters": 12,
    }
)
_ADAPTED: Mapping[str, Any] = MappingProxyType(
    {
        "roles": {"lora_up": 2, "lora_down": 2, "base": 12},
        "family": "lora",
        "modules": LORA.modules,
        "pairs": frozenset({(4, None, 1.0)}),
        "idle": False,
        "optimizer_parameters": 4,
        "usable": ("weights", "optimizer"),
    }
)

CASES: tuple[Case, ...] = (
    Case(id="dcp/whole", write=_dcp, truth=Truth(**_WHOLE), **_DCP),
    Case(id="dcp/flat", write=partial(_dcp, flat=True), truth=Truth(**_WHOLE), **_DCP),
    Case(
        id="dcp/many-files",
        write=partial(_dcp, single_file_per_rank=False),
        truth=Truth(**_WHOLE),
        **_DCP,
    ),
    Case(
        id="dcp/threads",
        write=partial(_dcp, thread_count=3),
        truth=Truth(**_WHOLE),
        **_DCP,
    ),
    Case(
        id="dcp/adapter-and-base",
        write=partial(_dcp, adapter=True),
        truth=Truth(**{**_WHOLE, **_ADAPTED}),
        writer="torch",
        needs=("torch", "transformers", "peft"),
        read=_read_dcp,
    ),
    Case(
        id="lightning/adapter",
        write=_lightning,
        truth=Truth(
            layout="lightning", trainer="lightning", step=4, epoch=1.0, updates_done=4, **_ADAPTED
        ),
        writer="pytorch-lightning",
        needs=("pytorch_lightning", "transformers", "peft"),
        read=_read_lightning,
    ),
    *(
        Case(
            id=f"deepspeed/stage-{stage}",
            write=partial(_deepspeed, stage),
            truth=Truth(
                layout="deepspeed",
                trainer="deepspeed",
                step=2,
                complete=True,
                roles={"lora_up": 1, "lora_down": 1, "base": 2, "other": 3},
                family="lora",
                pairs=frozenset({(3, None, 1.0)}),
                idle=False,
                usable=("weights", "optimizer"),
                optimizer_parameters=4,
                settings={"deepspeed.stage": stage, "precision.mixed": "bf16"},
            ),
            writer="deepspeed",
            needs=("deepspeed",),
            others=1,
            slow=True,
        )
        for stage in (1, 2, 3)
    ),
)
