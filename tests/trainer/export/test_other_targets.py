# ruff: noqa: PLC0415 - torch is loaded only where it is needed
"""Files for diffusers and ComfyUI, and whole models."""

from __future__ import annotations

import pytest

pytest.importorskip("diffusers")
pytestmark = pytest.mark.trainer

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
CLIP = ["q_proj", "v_proj", "fc1"]


@pytest.fixture
def parts(unet, clip):
    return unet, clip


def pipeline(unet, clip):
    """The smallest pipeline that `load_lora_weights` has."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline

    vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, sample_size=8)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=clip,
        tokenizer=None,
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True},
        {"use_dora": True},
        {"rank_pattern": {"to_k": 2}, "alpha_pattern": {"attn2.to_q": 1, "to_v": 3}},
    ],
    ids=["plain", "rslora", "dora", "patterns"],
)
def test_a_pipeline_loads_a_unets_adapter(export, adapted, parts, same_changes, config):
    """Rank and alpha are the model's own afterwards, and so are DoRA's magnitudes."""
    import torch
    from diffusers import UNet2DConditionModel

    unet, clip = parts
    fresh = UNet2DConditionModel.from_config(unet.config)
    fresh.load_state_dict(unet.state_dict())
    checkpoint, before = adapted(unet, target_modules=ATTENTION, **config)
    code, out, said = export(checkpoint, "diffusers", "--as", "sd1", name="out.safetensors")
    assert code == 0, said
    pipe = pipeline(fresh, clip)
    pipe.load_lora_weights(str(out.parent), weight_name=out.name)
    same_changes(before, pipe.unet)
    if "use_dora" in config:
        length = {key for key, _ in pipe.unet.named_parameters() if "magnitude" in key}
        assert len(length) == len(before)
        inputs = torch.randn(1, 4, 8, 8), torch.tensor(3), torch.randn(1, 5, 16)
        with torch.no_grad():
            torch.testing.assert_close(pipe.unet(*inputs).sample, unet(*inputs).sample)


def test_a_pipeline_loads_a_text_encoders_adapter(export, adapted, parts, same_changes):
    from transformers import CLIPTextModel

    unet, clip = parts
    fresh = CLIPTextModel(clip.config)
    checkpoint, before = adapted(clip, target_modules=CLIP)
    code, out, said = export(checkpoint, "diffusers", "--as", "clip", name="out.safetensors")
    assert code == 0, said
    pipe = pipeline(unet, fresh)
    pipe.load_lora_weights(str(out.parent), weight_name=out.name)
    same_changes(before, pipe.text_encoder)


def test_comfy_has_the_originals_modules_of_flux(export, adapted, flux, same_changes):
    """Fused; the changes are those of the parts, row below row."""
    import torch

    targets = ["to_q", "to_k", "to_v", "proj_mlp", "norm_out.linear"]
    checkpoint, before = adapted(
        flux, target_modules=targets, rank_pattern={"to_k": 2}, alpha_pattern={"to_v": 1}
    )
    code, out, said = export(checkpoint, "comfy", name="out.safetensors")
    assert code == 0, said
    double, single = "transformer_blocks.0.attn.", "single_transformer_blocks.0."
    parts = [before[f"{double}{name}"] for name in ("to_q", "to_k", "to_v")]
    scale, shift = before["norm_out.linear"].chunk(2)
    same_changes(
        {
            "diffusion_model.double_blocks.0.img_attn.qkv": torch.cat(parts),
            "diffusion_model.single_blocks.0.linear1": torch.cat(
                [
                    *(before[f"{single}attn.{name}"] for name in ("to_q", "to_k", "to_v")),
                    before[f"{single}proj_mlp"],
                ]
            ),
            "diffusion_model.final_layer.adaLN_modulation.1": torch.cat([shift, scale]),
        },
        out,
    )


def test_a_part_that_was_not_adapted_changes_nothing(export, adapted, flux, pairs):
    checkpoint, _ = adapted(flux, target_modules=["to_k"])
    code, out, said = export(checkpoint, "comfy", name="out.safetensors")
    assert code == 0, said
    whole = pairs(out)["diffusion_model.single_blocks.0.linear1"]
    assert whole.shape == (7 * 16, 16)
    assert not whole[:16].any()
    assert not whole[32:].any()
    assert whole[16:32].any()


def test_comfy_names_a_language_model_as_a_text_encoder(export, adapted, llama, same_changes):
    checkpoint, before = adapted(llama, target_modules=["v_proj"], task_type="CAUSAL_LM")
    code, out, said = export(checkpoint, "comfy", name="out.safetensors")
    assert code == 0, said
    prefix = "text_encoders.transformer."
    same_changes({prefix + path: value for path, value in before.items()}, out)


@pytest.mark.parametrize(
    ("config", "dtype"),
    [({}, None), ({"use_dora": True}, None), ({"use_rslora": True}, "bf16")],
    ids=["lora", "dora", "bf16"],
)
def test_a_merged_model_holds_base_plus_change(export, adapted, base_model, config, dtype):
    """Without DoRA each weight is W + scale * B @ A; with it, the model computes the same."""
    import torch
    from transformers import AutoModelForCausalLM

    targets = ["q_proj", "down_proj"]
    llama = AutoModelForCausalLM.from_pretrained(base_model)
    checkpoint, before = adapted(llama, target_modules=targets, task_type="CAUSAL_LM", **config)
    options = ("--base", base_model) + (("--dtype", dtype) if dtype else ())
    code, out, said = export(checkpoint, "merged", *options)
    assert code == 0, said
    merged = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    base = AutoModelForCausalLM.from_pretrained(base_model)
    wanted = torch.bfloat16 if dtype else torch.float32
    assert {value.dtype for value in merged.parameters()} == {wanted}
    if config.get("use_dora"):
        tokens = torch.arange(3, 20)[None]
        with torch.no_grad():
            adapted_logits = llama(tokens).logits
            torch.testing.assert_close(merged(tokens).logits, adapted_logits, rtol=1e-4, atol=1e-4)
        return
    for path, change in before.items():
        whole = base.get_parameter(f"{path}.weight").detach() + change
        found = merged.get_parameter(f"{path}.weight").detach()
        torch.testing.assert_close(found, whole.to(wanted), rtol=1e-2 if dtype else 1e-6, atol=1e-6)
    same = "model.layers.0.self_attn.k_proj.weight"
    assert torch.equal(merged.get_parameter(same), base.get_parameter(same).to(wanted))


def test_a_merged_unet_is_diffusers_own(export, adapted, unet, tmp_path):
    import torch
    from diffusers import UNet2DConditionModel

    unet.save_pretrained(tmp_path / "unet")
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    checkpoint, changes = adapted(unet, target_modules=ATTENTION)
    code, out, said = export(checkpoint, "merged", "--base", tmp_path / "unet")
    assert code == 0, said
    merged = UNet2DConditionModel.from_pretrained(out)
    for path, change in changes.items():
        whole = before[f"{path}.weight"] + change
        torch.testing.assert_close(merged.get_parameter(f"{path}.weight").data, whole)
