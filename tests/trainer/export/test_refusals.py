# ruff: noqa: PLC0415 - torch is loaded only where it is needed
"""What `export` refuses, in one sentence and before anything is written."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.trainer


@pytest.fixture
def small(adapted, llama):
    """A checkpoint of one pair a layer."""
    return adapted(llama, target_modules=["q_proj"], task_type="CAUSAL_LM")[0]


def rewritten(checkpoint, **config):
    path = checkpoint / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))


def with_tensors(checkpoint, change):
    from safetensors.torch import load_file, save_file

    path = checkpoint / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def set_value(ending, value):
    def change(tensors):
        key = next(key for key in tensors if key.endswith(ending))
        tensors[key].view(-1)[0] = value

    return change


def test_values_beyond_fp16_are_refused_with_their_share(export, small):
    with_tensors(small, set_value("lora_B.weight", 1e6))
    code, out, said = export(small, "kohya", "--dtype", "fp16")
    assert code == 2
    assert "1 of 4,096 values (0.02%) are above fp16's largest, 65504" in said
    assert "use --dtype bf16 or fp32" in said
    assert not out.exists()
    code, out, said = export(small, "kohya", "--dtype", "bf16")
    assert code == 0, said


def test_a_matrix_that_fp16_would_make_zero_is_refused(export, small):
    def shrink(tensors):
        for key, value in tensors.items():
            if "lora_B" in key:
                value.mul_(1e-9)

    with_tensors(small, shrink)
    code, _, said = export(small, "comfy", "--dtype", "fp16")
    assert code == 2
    assert "fp16 rounds all of" in said


def test_the_dtype_is_that_of_the_matrices_not_of_alpha(export, small):
    import torch
    from safetensors.torch import load_file

    code, out, said = export(small, "kohya", "--dtype", "fp16")
    assert code == 0, said
    kinds = {key.rsplit(".", 1)[-1]: value.dtype for key, value in load_file(out).items()}
    assert kinds == {"alpha": torch.float32, "weight": torch.float16}


def test_nothing_is_overwritten_unasked(export, small):
    assert export(small, "kohya")[0] == 0
    code, out, said = export(small, "kohya")
    assert code == 2
    assert "is there already; name another with -o, or use --force" in said
    before = out.read_bytes()
    assert export(small, "kohya", "--force", "--dtype", "bf16")[0] == 0
    assert out.read_bytes() != before
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []


def test_a_merged_model_replaces_only_a_directory_and_only_when_asked(export, small, base_model):
    assert export(small, "merged", "--base", base_model)[0] == 0
    assert export(small, "merged", "--base", base_model)[0] == 2
    code, out, said = export(small, "merged", "--base", base_model, "--force")
    assert code == 0, said
    assert (out / "tokenizer_config.json").is_file()
    assert "is a directory" in export(small, "kohya", "--force")[2]
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []


def test_a_killed_writer_leaves_the_old_file(part, tmp_path):
    """Whatever ends the block by an exception, the old bytes stay and nothing lies about."""
    place = tmp_path / "out.safetensors"
    place.write_bytes(b"old")

    def write():
        with part("export.writing").replaced(place) as path:
            path.write_bytes(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert place.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"peft_type": "LOHA"}, "its method is 'LOHA', not LoRA; use --to merged"),
        ({"init_lora_weights": "pissa_niter_4"}, "changed the base"),
        ({"lora_bias": True}, "lora_bias is set, which these files can't say"),
        ({"lora_alpha": "8"}, "is '8' in adapter_config.json, not a number"),
        ({"use_dora": True}, "use_dora is True, but module"),
    ],
)
def test_what_the_pairs_do_not_say_is_refused(export, small, config, sentence):
    rewritten(small, **config)
    code, out, said = export(small, "kohya")
    assert code == 2
    assert sentence in said
    assert said.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (set_value("lora_A.weight", float("nan")), "1 of 8 tensors hold NaN or Inf"),
        (
            lambda tensors: tensors.pop(next(key for key in tensors if "lora_B" in key)),
            "lacks its up matrix",
        ),
        (
            lambda tensors: tensors.update(
                {"base_model.model.lm_head.weight": next(iter(tensors.values())) * 1}
            ),
            "1 tensors belong to no LoRA pair ('base_model.model.lm_head.weight', ...)",
        ),
        (
            lambda tensors: tensors.update(
                {key: value[:2].clone() for key, value in tensors.items() if "lora_A" in key}
            ),
            "no LoRA pair",
        ),
    ],
    ids=["nan", "half a pair", "a whole module", "other ranks"],
)
def test_a_checkpoint_that_is_not_pairs_through_and_through_is_refused(
    export, small, change, sentence
):
    with_tensors(small, change)
    code, _, said = export(small, "kohya")
    assert code == 2
    assert sentence in said


def test_names_that_do_not_say_the_base_ask_for_it(export, adapted):
    pytest.importorskip("diffusers")
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        block_out_channels=(4,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=2,
        cross_attention_dim=8,
    )
    checkpoint, _ = adapted(unet, target_modules=["to_q"])
    code, _, said = export(checkpoint, "kohya")
    assert code == 2
    assert "do not say what it was trained on; say it with --as (sd1, sd2, sdxl," in said
    code, _, said = export(checkpoint, "kohya", "--as", "sd3")
    assert code == 2
    assert "--as sd3: is not known" in said
    assert "kohya has no names for" in export(checkpoint, "kohya", "--as", "transformer")[2]


def test_a_language_model_is_no_part_of_a_pipeline(export, small):
    code, _, said = export(small, "diffusers")
    assert code == 2
    assert "diffusers has no names for a language model" in said


def test_a_torn_or_absent_checkpoint_is_refused(export, small, tmp_path):
    weights = small / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert "can't be read" in export(small, "comfy")[2]
    assert "adapter_config.json is missing" in export(tmp_path, "comfy")[2]


def test_an_option_without_effect_is_refused(export, small):
    assert "--base: has no effect" in export(small, "comfy", "--base", "x")[2]
    assert "--as: has no effect" in export(small, "merged", "--as", "text")[2]


def test_a_base_that_is_not_there_is_refused(export, small, tmp_path):
    code, out, said = export(small, "merged", "--base", tmp_path / "nowhere")
    assert code == 2
    assert "say where it is with --base" in said
    assert not out.exists()
