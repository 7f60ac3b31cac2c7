"""ai-toolkit's own trainer on modules of a few numbers, with a loss that reaches all of them."""

from __future__ import annotations

import importlib

import diffusers.loaders.peft  # noqa: F401 - before torchvision is stood in for
import torch
import transformers
from _small_models import conv, linear, model
from diffusers import FlowMatchEulerDiscreteScheduler

STAND_INS = ("torchvision", "albumentations", "torchaudio", "lpips")


def trainer_class() -> type:
    """Return ai-toolkit's own trainer with a loss that reaches every parameter."""
    process = importlib.import_module("jobs.process.BaseSDTrainProcess")
    own_model_class = importlib.import_module("toolkit.util.get_model").get_model_class
    process.get_model_class = lambda config: type("Tiny", (Tiny, own_model_class(config)), {})

    class Trainer(process.BaseSDTrainProcess):
        zero_at_start = None
        began_at = None

        def hook_train_loop(self, batch):
            del batch
            if self.zero_at_start is None:
                state = self.network.get_state_dict(dtype=torch.float32)
                type(self).zero_at_start = sorted(k for k, v in state.items() if not v.any())
                type(self).began_at = self.step_num
            self.optimizer.zero_grad()
            with self.network:
                loss = self.sd.unet(torch.ones(1, 8, 8, 8, dtype=self.sd.torch_dtype)).mean()
                for encoder in self.sd.text_encoder:
                    loss = loss + encoder(torch.arange(4)[None]).last_hidden_state.mean()
                loss.backward()
            self.optimizer.step()
            self.lr_scheduler.step()
            return {"loss": float(loss)}

    return Trainer


class Tiny:
    """Loads modules of a few numbers in place of a model's."""

    def load_model(self):
        """Set what the real function sets."""
        self.unet = self.model = backbone(self.arch)
        self.text_encoder = [encoder() for _ in range(2 if self.arch == "sdxl" else 1)]
        self.tokenizer = []
        self.vae = model("Vae", {"x": linear()})
        self.noise_scheduler = FlowMatchEulerDiscreteScheduler()

    def set_device_state(self, state):
        """Move nothing: everything lies in the same memory."""


def backbone(arch: str) -> torch.nn.Module:
    """Return the model to train, its classes and paths as the real one's."""
    unet = {
        "down_blocks.0.attentions.0": (
            "Transformer2DModel",
            {"proj_in": conv(1), "transformer_blocks.0.attn1.to_q": linear()},
        ),
        "down_blocks.0.resnets.0": ("ResnetBlock2D", {"conv1": conv(3)}),
    }
    block = (
        "Block",
        {"attn.to_q": linear(), "attn.norm_q": torch.nn.LayerNorm(8), "ff.0": linear()},
    )
    plans = {
        "flux": ("FluxTransformer2DModel", {"transformer_blocks.0": block}),
        "sd1": ("UNet2DConditionModel", unet),
        "sdxl": ("UNet2DConditionModel", unet),
        "chroma": ("Chroma", {"double_blocks.0": block}),
        "wan21": ("WanTransformer3DModel", {"blocks.0": block}),
        "flux2": ("Flux2", {"double_blocks.0": block}),
        "qwen_image": ("QwenImageTransformer2DModel", {"transformer_blocks.0": block}),
    }
    return model(*plans[arch])


def encoder() -> torch.nn.Module:
    """Return a text encoder of CLIP's class, one layer of eight features."""
    config = transformers.CLIPTextConfig(
        vocab_size=8,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=1,
    )
    return transformers.CLIPTextModel(config)
