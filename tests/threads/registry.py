"""The threads that are rebuilt, and those that are not."""

from __future__ import annotations

from threads.of_files import OF_FILES
from threads.of_training import OF_TRAINING
from threads.thread import Left, Thread

THREADS: tuple[Thread, ...] = (*OF_TRAINING, *OF_FILES)

LEFT: tuple[Left, ...] = (
    Left(
        "kohya-ss/musubi-tuner#66, unslothai/unsloth#2212",
        "what happened needs a kernel of a GPU: an fp8 base, a fused int8 multiplication",
    ),
    Left(
        "huggingface/peft#2500, huggingface/accelerate#3508, huggingface/trl#4416,"
        " deepspeedai/DeepSpeed#7900",
        "several processes under ZeRO; what they leave on disk is that of the two of peft above",
    ),
    Left(
        "NVIDIA/Megatron-LM#5281 and #4378, LLNL/scr#174, NVIDIA-NeMo/Automodel#3254",
        "a loop of restarts is no property of one checkpoint; the supervisor's tests have it",
    ),
    Left(
        "NVIDIA-NeMo/Speech pull 10228, huggingface/transformers#31283, wandb/wandb#3563",
        "ask for a behaviour of the trainer or of a service, and name no file to look at",
    ),
)
