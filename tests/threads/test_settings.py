"""Threads whose fault stands in what the trainer is asked to do: seen before step 1."""

from __future__ import annotations

from pathlib import Path

from threads.finding import checked, healthy, said

A100 = {"device.type": "cuda", "device.name": "NVIDIA A100", "device.bf16": True}
T4 = {"device.type": "cuda", "device.name": "Tesla T4", "device.bf16": False}

SCRIPT = (
    "torchrun --nproc_per_node 8 finetune.py --model_name_or_path openbmb/MiniCPM-V-2_6"
    " --llm_type qwen2 --data_path data.json --remove_unused_columns false --label_names labels"
    " --prediction_loss_only false --bf16 {bf16} --bf16_full_eval {bf16} --fp16 {fp16}"
    " --fp16_full_eval {fp16} --do_train --tune_vision true --tune_llm false --use_lora true"
    " --lora_target_modules 'llm..*layers.\\d+.self_attn.(q_proj|k_proj|v_proj|o_proj)'"
    " --model_max_length 2048 --max_steps 10000 --output_dir output/output_lora"
    " --per_device_train_batch_size 1 --save_steps 1000 --learning_rate 1e-6 --weight_decay 0.1"
    " --adam_beta2 0.95 --warmup_ratio 0.01 --lr_scheduler_type cosine --logging_steps 1\n"
)


def minicpm(path: Path, *, fp16: bool) -> Path:
    """The trainer's own script for LoRA, in one of the two precisions."""
    flags = {"fp16": str(fp16).lower(), "bf16": str(not fp16).lower()}
    path.write_text(SCRIPT.format(**flags), encoding="utf-8")
    return path


def test_openbmb_minicpm_v_496(tmp_path: Path) -> None:
    """fp16 or bf16? With the script's default the loss is 0 and the gradient norm NaN; the answer
    was: it depends on the GPU. It is given for the GPU that is here, with the flags to change."""
    script = minicpm(tmp_path / "finetune_lora.sh", fp16=True)
    other = minicpm(tmp_path / "finetune_ds.sh", fp16=False)

    said(
        checked(script, A100).verdict,
        "minicpm-v-fp16",
        "suspect",
        "the loss becomes 0 and the gradient norm NaN once an activation passes 65504",
        "NVIDIA A100 has bf16: set --bf16 true",
    )
    said(checked(script, T4).verdict, "minicpm-v-fp16", "suspect", "Tesla T4 has no bf16")
    healthy(checked(other, A100).verdict)
