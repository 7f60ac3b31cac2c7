# ruff: noqa: PLC0415 - torch is loaded only where it is needed
"""Files for kohya's tools: LyCORIS and diffusers open them, and change the base as before."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("diffusers")
pytestmark = pytest.mark.trainer

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]


def metadata_of(path):
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return file.metadata()


def underscored(changes, prefix):
    return {prefix + path.replace(".", "_"): value for path, value in changes.items()}


def test_sdxl_has_the_originals_names(export, adapted, same_changes):
    """diffusers turns them into its own again, convolutions and samplers too."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders import StableDiffusionXLLoraLoaderMixin as Loader

    settings = {
        "block_out_channels": (2, 2, 2),
        "layers_per_block": 2,
        "sample_size": 8,
        "norm_num_groups": 2,
        "attention_head_dim": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 2048,
    }
    targets = [*ATTENTION, "proj_in", "conv1", "time_emb_proj", "conv_shortcut", "0.conv"]
    checkpoint, before = adapted(UNet2DConditionModel(**settings), target_modules=targets, r=1)
    code, out, said = export(checkpoint, "kohya", name="out.safetensors")
    assert code == 0, said
    assert "--as sdxl" in said
    fresh = UNet2DConditionModel(**settings)
    state, alphas = Loader.lora_state_dict(str(out), unet_config=fresh.config)
    Loader.load_lora_into_unet(state, alphas, fresh)
    same_changes(before, fresh)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"to_k": 2}, "alpha_pattern": {"attn2.to_q": 1, "to_v": 3}},
        {"target_modules": ["conv1", "conv_shortcut", "proj_in", "to_q"]},
    ],
    ids=["plain", "rslora", "patterns", "convolutions"],
)
def test_a_unets_changes_are_the_same_before_and_after(export, adapted, unet, same_changes, config):
    checkpoint, before = adapted(unet, **({"target_modules": ATTENTION} | config))
    code, out, said = export(checkpoint, "kohya", "--as", "sd1")
    assert code == 0, said
    same_changes(underscored(before, "lora_unet_"), out)


def test_lycoris_changes_a_language_model_as_peft_does(export, adapted, llama, base_model):
    """Names, alpha and rank are LyCORIS' own; its model computes what PEFT's did."""
    import torch
    from transformers import AutoModelForCausalLM

    wrapper = pytest.importorskip("lycoris.wrapper")
    checkpoint, _ = adapted(llama, target_modules="all-linear", task_type="CAUSAL_LM")
    code, out, said = export(checkpoint, "kohya", name="out.safetensors")
    assert code == 0, said
    from peft import PeftModel

    tokens = torch.arange(3, 20)[None]
    base = AutoModelForCausalLM.from_pretrained(base_model)
    with torch.no_grad():
        plain = base(tokens).logits
        network, _ = wrapper.create_lycoris_from_weights(1.0, str(out), base)
        assert len(network.loras) == 4 * 7
        network.apply_to()
        theirs = base(tokens).logits
        peft = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(base_model), checkpoint
        )
        ours = peft(tokens).logits
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
    assert (plain - ours).abs().max() > 0.01


def test_lycoris_reads_the_magnitudes_of_dora(export, adapted, llama, base_model):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    wrapper = pytest.importorskip("lycoris.wrapper")
    targets = ["q_proj", "down_proj"]
    checkpoint, _ = adapted(llama, target_modules=targets, use_dora=True, task_type="CAUSAL_LM")
    code, out, said = export(checkpoint, "kohya", name="out.safetensors")
    assert code == 0, said
    assert json.loads(metadata_of(out)["ss_network_args"])["dora_wd"] == "True"
    base = AutoModelForCausalLM.from_pretrained(base_model)
    merged = AutoModelForCausalLM.from_pretrained(base_model)
    network, _ = wrapper.create_lycoris_from_weights(1.0, str(out), merged)
    network.merge_to(1.0)
    peft = PeftModel.from_pretrained(base, checkpoint).merge_and_unload()
    for layer in ("self_attn.q_proj", "mlp.down_proj"):
        name = f"model.layers.1.{layer}.weight"
        theirs, ours = merged.get_parameter(name), peft.get_parameter(name)
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-6)


def test_diffusers_opens_the_kohya_file_of_a_unet(export, adapted, unet, same_changes):
    from diffusers import UNet2DConditionModel
    from diffusers.loaders import StableDiffusionLoraLoaderMixin as Loader

    fresh = UNet2DConditionModel.from_config(unet.config)
    checkpoint, before = adapted(unet, target_modules=ATTENTION)
    assert export(checkpoint, "kohya", "--as", "sd1", name="out.safetensors")[0] == 0
    out = checkpoint.parent.parent / "out.safetensors"
    state, alphas = Loader.lora_state_dict(str(out), unet_config=fresh.config)
    Loader.load_lora_into_unet(state, alphas, fresh)
    same_changes(before, fresh)


def test_clip_has_the_name_it_had_before_transformers_5(export, adapted, clip, same_changes):
    """kohya's tools know `text_model` only; diffusers opens it, whichever its encoder has.

    The MLP alone: of attention in kohya's files diffusers 0.42.1 can't tell the type.
    """
    from diffusers.loaders import StableDiffusionLoraLoaderMixin as Loader
    from safetensors.torch import load_file
    from transformers import CLIPTextModel

    fresh = CLIPTextModel(clip.config)
    checkpoint, before = adapted(clip, target_modules=["fc1", "fc2"])
    code, out, said = export(checkpoint, "kohya", "--as", "clip-l", name="out.safetensors")
    assert code == 0, said
    assert "lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha" in load_file(out)
    state, alphas = Loader.lora_state_dict(str(out))
    Loader.load_lora_into_text_encoder(state, alphas, fresh, prefix="text_encoder")
    same_changes(before, fresh)


def test_flux_is_fused_as_the_original_has_it(export, adapted, flux, same_changes):
    """diffusers takes the fused matrices apart again, by code of its own.

    Without the fused projection of single blocks, whose real width is fixed in that code.
    """
    from diffusers import FluxTransformer2DModel
    from diffusers.loaders import FluxLoraLoaderMixin as Loader
    from safetensors.torch import load_file

    fresh = FluxTransformer2DModel.from_config(flux.config)
    double = r"attn\.(to_q|to_k|to_v|add_[qkv]_proj|to_out\.0|to_add_out)|ff\.net\.2|norm1\.linear"
    targets = rf"transformer_blocks\.0\.({double})|single_transformer_blocks\.0\.norm\.linear"
    checkpoint, before = adapted(flux, target_modules=targets)
    code, out, said = export(checkpoint, "kohya", name="out.safetensors")
    assert code == 0, said
    tensors = load_file(out)
    assert tensors["lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight"].shape == (48, 12)
    state, alphas = Loader.lora_state_dict(str(out), return_alphas=True)
    Loader.load_lora_into_transformer(state, alphas, fresh)
    same_changes(before, fresh)


def test_the_metadata_says_how_it_was_trained(export, finished):
    """Of a checkpoint of this trainer; the hashes are those of the file that was written."""
    import hashlib

    code, out, said = export(finished / "checkpoint-4", "kohya", name="out.safetensors")
    assert code == 0, said
    told = metadata_of(out)
    assert told["ss_network_dim"] == "2"
    assert told["ss_network_alpha"] == "4.0"
    assert told["ss_network_module"] == "lycoris.kohya"
    assert (told["ss_steps"], told["ss_max_train_steps"]) == ("4", "6")
    assert told["ss_learning_rate"] == "0.001"
    assert told["ss_optimizer"] == "adamw-fused()"
    assert told["ss_output_name"] == told["modelspec.title"]
    assert told["modelspec.sai_model_spec"] == "1.0.1"
    assert told["modelspec.architecture"] == "llama/lora"
    data = out.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    digest = hashlib.sha256(data[start:]).hexdigest()
    assert told["sshs_model_hash"] == digest
    assert told["modelspec.hash_sha256"] == f"0x{digest}"
