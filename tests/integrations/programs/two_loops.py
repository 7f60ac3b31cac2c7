"""One process of two that run a loop of their own: what it heard of the verdicts, as JSON.

What they train is one LoRA pair, whose gradient becomes infinite at the third step.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import distributed

from sentinel.integrations.accelerate import guard


def main(root: Path) -> None:
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    torch.manual_seed(0)
    down, up = torch.randn(2, 8).requires_grad_(), torch.zeros(6, 2).requires_grad_()
    optimizer = torch.optim.SGD([down, up], lr=0.1)
    steps = 0
    with guard(on_stop="return") as check:
        for step in range(1, 6):
            loss = (torch.ones(3, 8) @ down.T @ up.T).sub(1).square().mean()
            (loss if step < 3 else loss * float("inf")).backward()
            for parameter in (down, up):
                distributed.all_reduce(parameter.grad)
            optimizer.step()
            optimizer.zero_grad()
            path = root / f"cat-step{step:08}.safetensors"
            if rank == 0:
                names = ("a.lora_down.weight", "a.lora_up.weight")
                save_file(dict(zip(names, [down.detach(), up.detach()], strict=True)), path)
            steps = step
            if check(path):
                break
    heard = {"steps": steps, "code": check.exit_code, "judged": check.judgement is not None}
    (root / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(heard))
    distributed.destroy_process_group()
    # Gloo's threads may still let go of tensors while the interpreter ends, and then the process
    # aborts, with a judge or without (https://github.com/pytorch/pytorch/pull/179291).
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
