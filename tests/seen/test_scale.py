"""Rules about alpha, rank and scale: files of PEFT, LyCORIS and diffusers' conversion."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from corpus.models import seed_torch
from seen.trainings import END, lora, run
from threads import denoising
from threads.finding import healthy, said, scan, silent

if TYPE_CHECKING:
    import numpy as np

pytestmark = [pytest.mark.trainer, pytest.mark.filterwarnings("ignore")]
for name in ("peft", "diffusers", "lycoris"):
    pytest.importorskip(name)


def test_scale_zero(tmp_path: Path, rng: np.random.Generator) -> None:
    """lora_alpha 0 multiplies all with zero, and nothing is ever learned: both findings say that
    alpha is the cause. One module that an alpha_pattern switches off is a doubt."""
    found = {}
    for name, options in (
        ("zero", {"lora_alpha": 0}),
        ("pattern", {"alpha_pattern": {"v_proj": 0}}),
        ("usual", {"lora_alpha": 1}),
        ("by rslora", {"lora_alpha": 1, "use_rslora": True, "r": 64}),
    ):
        _, found[name] = scan(run(lora(rng, **options), tmp_path / name))

    said(
        found["zero"].verdict,
        "scale-zero",
        "faulty",
        "the scale of 4 of 4 modules (alpha 0, rank 4) is 0 at step 8",
        "set alpha to the rank or twice the rank and start again",
    )
    said(
        found["zero"].verdict,
        "dead-lora-up",
        "faulty",
        "the scale (alpha / rank) is 0, so no gradient reaches them",
    )
    said(found["pattern"].verdict, "scale-zero", "suspect", "the scale of 2 of 4 modules")
    healthy(found["usual"].verdict)
    healthy(found["by rslora"].verdict)


def test_scale_absurd(tmp_path: Path, rng: np.random.Generator) -> None:
    """An alpha of 8192 on rank 4, as after one number too many; what people do use is quiet: alpha
    1 at rank 1024, and a hundred times the rank under rsLoRA."""
    found = {}
    for name, options in (
        ("large", {"lora_alpha": 8192}),
        ("small", {"lora_alpha": 1e-3, "r": 64}),
        ("wide", {"lora_alpha": 1, "r": 1024}),
        ("rslora", {"lora_alpha": 400, "use_rslora": True}),
    ):
        rate = 1e-5 if name == "large" else 1e-4
        run(lora(rng, **options), tmp_path / name, learning_rate=rate, save_steps=END)
        [found[name]] = scan(tmp_path / name)

    said(
        found["large"].verdict,
        "scale-absurd",
        "suspect",
        "the scale of 4 of 4 modules is far from anything usual at step 8",
        "2048.0 in the first (alpha 8192.0, rank 4;",
        "alpha and rank were confused",
    )
    said(found["small"].verdict, "scale-absurd", "suspect", "1.5625e-05 in the first")
    silent(found["wide"].verdict, "scale-absurd")
    silent(found["rslora"].verdict, "scale-absurd")


def test_alpha_rounded(tmp_path: Path, rng: np.random.Generator) -> None:
    """save_precision bf16 makes 0.3008 of an alpha of 0.3; 4 stays 4, and fp32 keeps 0.3."""
    model = denoising.unet(rng)
    denoising.learn(model)
    found = {}
    for alpha, dtype in ((0.3, "bfloat16"), (4, "bfloat16"), (0.3, "float32")):
        path = denoising.save(tmp_path / f"{alpha}-{dtype}" / "cat.safetensors", model)
        rewrite(path, alpha, dtype)
        [found[alpha, dtype]] = scan(path)

    said(
        found[0.3, "bfloat16"].verdict,
        "alpha-rounded",
        "healthy",
        "32 of 32 alphas are stored as BF16, which rounds 0.3 to 0.30078125",
        "save in fp32, or choose a power of two",
    )
    silent(found[4, "bfloat16"].verdict, "alpha-rounded")
    silent(found[0.3, "float32"].verdict, "alpha-rounded")


def rewrite(path: Path, alpha: float, dtype: str) -> None:
    """Give a file of sd-scripts' form another alpha and precision, as its savers cast them."""
    torch, saved = (importlib.import_module(name) for name in ("torch", "safetensors.torch"))
    kind = getattr(torch, dtype)
    tensors = {
        key: (torch.tensor(float(alpha)) if key.endswith("alpha") else value).to(kind)
        for key, value in saved.load_file(path).items()
    }
    told = {"ss_network_alpha": str(alpha), "ss_network_dim": "4"}
    saved.save_file(tensors, path, {**denoising.METADATA, **told})


def test_alpha_inconsistent(tmp_path: Path, rng: np.random.Generator) -> None:
    """One block's projection came from a file of another alpha. A single convolution with an
    alpha of its own, a module that a preset names, and sd-scripts' block_alphas are meant."""
    own = {"algo": "locon", "dim": 4, "alpha": 1.0}
    files = {
        "one": blocks(tmp_path / "one", rng),
        "convolution": blocks(tmp_path / "convolution", rng, conv_alpha=1.0),
        "preset": blocks(tmp_path / "preset", rng, preset={"proj_out": own}),
        "blocks": blocks(tmp_path / "blocks", rng, preset={"blocks.3.q": own}),
    }
    merged = blocks(tmp_path / "merged", rng)
    replace_alpha(merged, "lycoris_blocks_3_q.alpha", files["blocks"])
    tell(files["blocks"], ss_network_args=json.dumps({"block_alphas": "1,4,4,4"}))

    [found] = scan(merged)
    said(
        found.verdict,
        "alpha-inconsistent",
        "suspect",
        "1 of 46 modules of rank 4 have another alpha (1) than all the others (4)",
        "'lycoris_blocks_3_q.alpha'",
        "the file was merged or converted by parts",
    )
    for path in files.values():
        [found] = scan(path)
        healthy(found.verdict)


def blocks(
    place: Path,
    rng: np.random.Generator,
    *,
    preset: Mapping[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Train LyCORIS over 44 projections, a convolution and an output, and save it."""
    torch = seed_torch(rng)
    lycoris = importlib.import_module("lycoris")
    linear = torch.nn.Linear
    parts = [torch.nn.ModuleDict({name: linear(16, 16) for name in "qkvo"}) for _ in range(11)]
    net = torch.nn.Module()
    net.conv, net.proj_out = torch.nn.Conv2d(3, 16, 3), linear(16, 4)
    net.blocks = torch.nn.ModuleList(parts)
    targets = {"target_module": ["Linear", "Conv2d"], "target_name": [], "module_algo_map": {}}
    lycoris.LycorisNetwork.apply_preset({**targets, "name_algo_map": dict(preset or {})})
    sizes = {"linear_dim": 4, "linear_alpha": 4.0, "conv_dim": 4, "conv_alpha": 4.0}
    network = lycoris.create_lycoris(net, 1.0, algo="locon", **{**sizes, **options})
    network.apply_to()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        flow = net.conv(torch.randn(2, 3, 3, 3)).flatten(1)
        for part in parts:
            flow = flow + part["o"](part["q"](flow) + part["k"](flow) * part["v"](flow))
        net.proj_out(flow).pow(2).mean().backward()
        optimizer.step()
    place.mkdir()
    told = {"ss_network_module": "lycoris.kohya", "ss_network_args": "{}"}
    network.save_weights(str(place / "cat.safetensors"), torch.float32, told)
    return place / "cat.safetensors"


def replace_alpha(path: Path, key: str, source: Path) -> None:
    """Take one alpha from another file, as a merge by parts does."""
    saved = importlib.import_module("safetensors.torch")
    tensors = saved.load_file(path) | {key: saved.load_file(source)[key]}
    saved.save_file(tensors, path, {"ss_network_module": "lycoris.kohya"})


def tell(path: Path, **metadata: str) -> None:
    """Write other metadata into a file."""
    saved = importlib.import_module("safetensors.torch")
    told = {"ss_network_module": "networks.lora", **metadata}
    saved.save_file(saved.load_file(path), path, told)
