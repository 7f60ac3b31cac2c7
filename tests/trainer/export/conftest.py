# ruff: noqa: PLC0415 - torch is loaded only where it is needed
"""PEFT checkpoints of every kind of base, and what their modules change, by PEFT's own sums."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def export(part, tmp_path, capsys):
    """Call the command; returns the exit code, what it wrote, what it said."""

    def call(checkpoint, target, *options, name="out"):
        out = tmp_path / name
        words = ["export", str(checkpoint), "--to", target, "-o", str(out), *map(str, options)]
        code = part("main").main(words)
        said = capsys.readouterr()
        return code, out, said.err if code else said.out

    return call


@pytest.fixture
def adapted(tmp_path):
    """Put an adapter with random matrices on a model, save it, return its changes by module."""

    def build(model, name="checkpoint-7", dtype=None, **config):
        import torch
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(1)
        settings = {"r": 4, "lora_alpha": 6, "init_lora_weights": True} | config
        model = get_peft_model(model, LoraConfig(**settings))
        with torch.no_grad():
            for key, value in model.named_parameters():
                if value.requires_grad and "magnitude" not in key:
                    value.normal_(std=0.1)
                elif value.requires_grad:
                    value.mul_(1 + 0.1 * torch.rand_like(value))
        if dtype is not None:
            for value in model.parameters():
                value.data = value.data.to(dtype) if value.requires_grad else value.data
        path = tmp_path / "run" / name
        model.save_pretrained(path)
        return path, changes(model)

    return build


def changes(model):
    """Return what each adapted module adds to its weight, as PEFT computes it."""
    import torch

    with torch.no_grad():
        return {
            path.removeprefix("base_model.model."): layer.get_delta_weight(adapter).float()
            for path, layer in model.named_modules()
            if hasattr(layer, "get_delta_weight")
            for adapter in layer.active_adapters
        }


def pairs_of(path):
    """Read a file's changes by scale * up @ down, whatever names the matrices have."""
    import torch
    from safetensors.torch import load_file

    tensors = load_file(path)
    found = {}
    for key, up in tensors.items():
        for ups, downs in ((".lora_up.", ".lora_down."), (".lora_B.", ".lora_A.")):
            if ups in key:
                place = key.split(ups, maxsplit=1)[0]
                down = tensors[key.replace(ups, downs)]
                scale = tensors[f"{place}.alpha"].item() / down.shape[0]
                product = up.double().flatten(1) @ down.double().flatten(1)
                shape = (up.shape[0], *down.shape[1:])
                found[place] = (scale * product).reshape(shape).to(torch.float32)
    return found


@pytest.fixture(scope="session")
def pairs():
    return pairs_of


@pytest.fixture(scope="session")
def same_changes():
    """Hold changes equal, module by module, to those of a file or of a model with an adapter."""

    def compare(before, after, tolerance=1e-6):
        import torch

        found = pairs_of(after) if isinstance(after, Path) else changes(after)
        assert before.keys() == found.keys()
        for key, value in before.items():
            assert value.any()
            torch.testing.assert_close(value, found[key], rtol=tolerance, atol=tolerance, msg=key)

    return compare


@pytest.fixture
def unet():
    """A UNet with Stable Diffusion's blocks: attention on one side, none in the last block."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=8,
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
    )


@pytest.fixture
def flux():
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(2, 2, 4),
    )


@pytest.fixture
def clip():
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            hidden_size=16,
            intermediate_size=24,
            num_attention_heads=2,
            num_hidden_layers=2,
            vocab_size=50,
            max_position_embeddings=16,
        )
    )


@pytest.fixture
def llama(base_model):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base_model)
