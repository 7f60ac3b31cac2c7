"""The rules that were seen on a real file and stayed quiet on its healthy twins."""

from __future__ import annotations

from seen.case import Seen, Unseen

SEEN: tuple[Seen, ...] = (
    # -- alpha, rank and scale --
    Seen(
        "scale-zero",
        "trained",
        "PEFT's LoRA with lora_alpha 0, or an alpha_pattern of 0",
        "alpha 1, rank-stabilised LoRA of rank 64",
    ),
    Seen(
        "scale-absurd",
        "trained",
        "PEFT's LoRA with alpha 8192 at rank 4, and 0.001 at rank 64",
        "alpha 1 at rank 1024, a hundred times the rank under rsLoRA",
    ),
    Seen(
        "alpha-rounded",
        "saved",
        "a U-Net's LoRA in sd-scripts' form, its alpha of 0.3 saved in bf16",
        "alpha 4 in bf16, 0.3 in fp32",
    ),
    Seen(
        "alpha-inconsistent",
        "planted",
        "LyCORIS over 46 modules, one alpha taken from another file",
        "conv_alpha on the only convolution, a preset's module, sd-scripts' block_alphas",
    ),
    # -- values --
    Seen(
        "fp16-overflow-risk",
        "trained",
        "Transformers' Trainer in bf16 at a rate of 1e5",
        "the same at 1e-3",
    ),
    Seen(
        "rank-collapse",
        "trained",
        "Transformers' Trainer with SGD that diverges; a head of two classes, told as what it is",
        "the same at a usual rate",
    ),
    Seen(
        "modules-to-save-drift",
        "trained",
        "a classifier that goes on at a thousand times its rate",
        "the same at 1e-4 and 1e-2",
    ),
    Seen(
        "tied-by-accident",
        "trained",
        "PEFT's LoRA whose first two layers share one lora_B",
        "tied embeddings, shared layers, PEFT's layer_replication",
    ),
    Seen(
        "partly-dead-lora-down",
        "planted",
        "a hole in a file of PEFT",
        "modules of another rank by rank_pattern",
    ),
    Seen(
        "unmeasured-values",
        "saved",
        "an adapter cut to half its rank and pickled as views into the old storage",
        "the same values copied",
    ),
    Seen(
        "integer-codes-as-floats",
        "saved",
        "int8 of bitsandbytes loaded with strict=False and saved by Transformers",
        "the model as it was, and in int8",
    ),
    Seen(
        "stalled-updates",
        "trained",
        "half of the modules frozen in the middle of a run",
        "a quarter of them, all lora_A, layers without an adapter",
    ),
    # -- from one checkpoint to the next --
    Seen(
        "learning-rate-zero",
        "trained",
        "a schedule that is over before the training is, a rate never set",
        "a warm-up from 0, a cosine and a linear decay to 0",
    ),
    Seen(
        "loss-scale-dead",
        "trained",
        "torch's scaler after 165 gradients of Inf",
        "the same after three and after none",
    ),
    Seen(
        "optimizer-lost",
        "planted",
        "the optimizer's file of a run of another rank",
        "lora_A frozen, LoRA+, the other run itself",
    ),
    Seen(
        "optimizer-state-missing",
        "planted",
        "Transformers' last checkpoint without its optimizer.pt",
        "save_only_model, and the file at the end of a run of diffusers",
    ),
    Seen(
        "step-mismatch",
        "planted",
        "a renamed directory, and one with the state of another",
        "a run that goes on with another batch size",
    ),
    Seen(
        "precision-changed",
        "trained",
        "a run in fp32 that goes on in fp16",
        "the same precision; to fp32, to autocast, in the file at the end: told as info",
    ),
    Seen(
        "base-quantization-changed",
        "saved",
        "two backups of OneTrainer over a base in NF4 and in fp8",
        "the same base, and one loaded in another float",
    ),
    Seen(
        "known-bad-version",
        "planted",
        "a model of Transformers' Trainer that names 4.46.0, with gradient accumulation",
        "without accumulation, and 4.46.2",
    ),
    # -- before step 1 --
    Seen(
        "adafactor-scale-configured",
        "configured",
        "a header of sd-scripts with Adafactor's defaults",
        "scale_parameter=False, AdamW, a backup of OneTrainer",
    ),
    Seen(
        "fp16-adapter-configured",
        "configured",
        "OneTrainer's configuration with Prodigy and FLOAT_16",
        "FLOAT_32 saved as FLOAT_16, sd-scripts under fp16 autocast",
    ),
    Seen(
        "fp16-modules-configured",
        "configured",
        "Transformers' arguments for a classifier, and for embeddings, over an fp16 base",
        "bf16, a base in fp32, nothing trained whole",
    ),
    Seen(
        "loss-scaling-off",
        "configured",
        "OneTrainer's FLOAT_16 over BFLOAT_16",
        "FLOAT_16 over FLOAT_32, BFLOAT_16 over BFLOAT_16",
    ),
    Seen(
        "precision-refused",
        "configured",
        "sd-scripts' full_fp16 under bf16, fp16 and bf16 in one of Axolotl's files",
        "full_bf16 under bf16",
    ),
    Seen(
        "precision-unsupported-by-device",
        "configured",
        "sd-scripts in bf16 on a T4",
        "an A100, an Apple M2, fp16 on a T4; a CPU is told as info",
    ),
    Seen(
        "prodigy-learning-rate",
        "configured",
        "OneTrainer's Prodigy at 1e-4",
        "at 1.0, AdamW at 1e-4",
    ),
    Seen(
        "fp16-on-bf16-device",
        "configured",
        "sd-scripts under fp16 autocast on an A100, told as info",
        "the same on a T4",
    ),
    Seen(
        "resume-ignored",
        "configured",
        "MiniCPM-V's script with --resume_from_checkpoint",
        "without it, sd-scripts' --resume",
    ),
    Seen(
        "resume-keeps-settings",
        "configured",
        "LLaMA-Factory resumed at another rate from a checkpoint of a real run",
        "the same rate, the adapter's weights alone",
    ),
)

UNSEEN: tuple[Unseen, ...] = (
    Unseen("unlisted-fault", "for a fault that no reader reports yet: each has a rule of its own"),
)
