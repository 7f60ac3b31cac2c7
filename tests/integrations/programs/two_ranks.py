"""One process of two that train together: what it heard of the verdicts, as JSON.

Transformers' Trainer, a loop of its own, and Lightning's Trainer; each with a LoRA that Adam
breaks in fp16.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import torch.distributed as dist

from corpus.models import tokens, trainable
from integrations.lightning_training import fitted, saving
from integrations.training import adapted, trainer
from sentinel.integrations.accelerate import guard
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


def with_loop(root: Path, rank: int) -> dict[str, object]:
    model = adapted("float16")
    optimizer = torch.optim.AdamW(trainable(model), lr=1e-3, foreach=False)
    with guard(on_stop="return") as check:
        for step in (1, 2):
            model(**tokens()).loss.backward()
            optimizer.step()
            path = root / "loop" / f"checkpoint-{step}"
            if rank == 0:
                model.save_pretrained(path)
            if check(path):
                break
    return {"step": step, "code": check.exit_code, "judged": check.judgement is not None}


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
        "loop": with_loop(root, rank),
        "lightning": with_lightning(root),
    }
    (root / f"rank-{rank}.json").write_text(json.dumps(heard))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
