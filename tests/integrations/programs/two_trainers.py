"""One process of two that train together: what it heard of the verdicts, as JSON.

Transformers' Trainer, then Lightning's; each with a LoRA that Adam breaks in fp16.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch.distributed as dist

from integrations.lightning_training import fitted, saving
from integrations.training import trainer
from sentinel.integrations.lightning import SentinelCallback as LightningCallback
from sentinel.integrations.transformers import SentinelCallback, TrainingStopped


def with_trainer(root: Path) -> dict[str, object]:
    callback = SentinelCallback(state=root / "state")
    training = trainer(root / "out", dtype="float16", callbacks=[callback], ddp_backend="gloo")
    try:
        training.train()
    except TrainingStopped as stopped:
        code = stopped.code
    else:
        code = None
    return {
        "world_size": training.args.world_size,
        "code": code,
        "step": training.state.global_step,
        "judged": callback.judgement is not None,
    }


def with_lightning(root: Path) -> dict[str, object]:
    callback = LightningCallback()
    try:
        fitted("float16", [callback, saving(root / "lightning")], strategy="ddp", devices=2)
    except TrainingStopped as stopped:
        code = stopped.code
    else:
        code = None
    return {"code": code, "judged": callback.judgement is not None}


def main(root: Path) -> None:
    rank = int(os.environ["RANK"])
    heard = {
        "trainer": with_trainer(root),
        "lightning": with_lightning(root),
    }
    (root / f"rank-{rank}.json").write_text(json.dumps(heard))
    dist.destroy_process_group()
    # Gloo's threads may still let go of tensors while the interpreter ends, and then the process
    # aborts, with a judge or without (https://github.com/pytorch/pytorch/pull/179291).
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
