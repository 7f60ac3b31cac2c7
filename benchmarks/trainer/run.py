"""sentinel-train next to TRL's SFTTrainer, and with `sentinel watch` beside it.

    python benchmarks/trainer/run.py --trl DIR --results benchmarks/results/trainer.md
    python benchmarks/trainer/run.py --trl DIR --size 1b --dtype bfloat16 --block 1024 --batch 4

Each training is a process of its own; all ways take turns, and what is told are medians of the
ratios of neighbours, with their range. DIR is an environment with TRL, made when it is not there;
without it only `sentinel watch` is measured.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from arms import Arms, in_turn
from measured import Measured, ratio
from sizes import SIZES
from trl_place import interpreter

VERSIONS = ("torch", "transformers", "peft", "accelerate", "bitsandbytes")
LOSSES = ("chunked_nll", "nll")
"""TRL's own choice, which needs less memory, and the loss that Transformers computes."""
OURS = "sentinel-train"


def main() -> None:
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory(dir=options.place) as name:
        place = Path(name)
        gpu = _material(options, place)
        arms = Arms(options, place, on_gpu=gpu is not None)
        page = list(_head(options, gpu))
        if options.trl:
            python = interpreter(options.trl.absolute())
            by_trl = {f"TRL, {loss}": arms.trl(python, loss) for loss in LOSSES}
            found = in_turn({OURS: arms.sentinel_train(), **by_trl}, options.rounds)
            page += _against_trl(found, _trl_version(python))
        watched = {
            "alone": arms.sentinel_train(save_every=options.save_every),
            "watched": arms.sentinel_train(save_every=options.save_every, watched=True),
        }
        page += _beside_watch(in_turn(watched, options.rounds), arms.judged, options)
    text = "\n".join(page) + "\n"
    print(text)
    if options.results:
        options.results.write_text(text, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trl", type=Path, help="an environment with TRL")
    parser.add_argument("--size", choices=SIZES, default="toy")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--quantization", choices=("none", "nf4"), default="none")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--block", type=int, default=256, help="tokens a row")
    parser.add_argument("--batch", type=int, default=4, help="rows a step")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--warm", type=int, default=10, help="first steps that do not count")
    parser.add_argument("--save-every", type=int, default=5, help="steps, for `sentinel watch`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of torch on a processor")
    parser.add_argument("--place", type=Path, help="a directory for the files [default: /tmp]")
    parser.add_argument("--results", type=Path, help="a file for what is printed")
    return parser


def _material(options: argparse.Namespace, place: Path) -> str | None:
    """Write model and text in another process, so that this one stays small; name the GPU."""
    sizes = ("--size", options.size, "--dtype", options.dtype, "--block", str(options.block))
    rows = ("--rows", str(options.batch * options.steps))
    script = Path(__file__).with_name("material.py")
    subprocess.run([sys.executable, script, place, *sizes, *rows], check=True)
    return json.loads((place / "machine.json").read_text(encoding="utf-8"))["gpu"]


def _head(options: argparse.Namespace, gpu: str | None) -> Iterator[str]:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in VERSIONS)
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    checkpointing = "on" if options.checkpointing else "off"
    yield "# The bundled trainer's speed\n"
    yield (
        f"{gpu or _processor()}, {len(os.sched_getaffinity(0))} cores allowed, "
        f"{options.threads} in use by torch, load {load} at the start (1, 5 and 15 minutes); "
        f"{platform.system()}, Python {platform.python_version()}, {versions}.\n"
    )
    if gpu is None:
        yield "**Measured on a processor only: GPU figures are missing.**\n"
    yield (
        f"A Llama of size `{options.size}` ({_words(SIZES[options.size])}) with random weights, "
        f"{options.dtype}, quantisation {options.quantization};\nLoRA of rank 16 in fp32 on all "
        f"linear layers, fused AdamW, {options.batch} rows of {options.block} tokens a step, "
        f"gradient checkpointing {checkpointing}.\n{options.steps} steps, of which the first "
        f"{options.warm} do not count; {options.rounds} rounds, in which the ways take turns.\n"
        "Ratios are medians over the rounds, in brackets their range; a range with 1 in it does "
        "not tell the two apart.\n"
    )
    yield f"    python {shlex.join(_spelled())}\n"


def _spelled() -> list[str]:
    """Return the command without the paths of this machine."""
    words = ["benchmarks/trainer/run.py", *sys.argv[1:]]
    for at, word in enumerate(words[:-1]):
        if word in {"--trl", "--place"}:
            words[at + 1] = "DIR"
    return words


def _against_trl(found: Mapping[str, Sequence[Measured]], version: str) -> Iterator[str]:
    yield f"## Next to TRL {version}\n"
    yield "The same recipe, model, rows and order of rows: the first loss is the same.\n"
    yield "| trainer | tokens/s | sentinel-train in times of it | peak memory | the same | loss |"
    yield "|---|---|---|---|---|---|"
    ours = found[OURS]
    for name, runs in found.items():
        speed, memory = "", ""
        if name != OURS:
            speed = str(ratio([r.tokens_per_s for r in ours], [r.tokens_per_s for r in runs]))
            memory = str(ratio([r.peak_bytes for r in ours], [r.peak_bytes for r in runs]))
        rate = statistics.median(run.tokens_per_s for run in runs)
        peak = statistics.median(run.peak_bytes for run in runs) / (1 << 20)
        losses = " to ".join(f"{loss:.4f}" for loss in runs[0].losses)
        yield f"| {name} | {rate:,.0f} | {speed} | {peak:,.0f} MiB | {memory} | {losses} |"
    yield ""


def _beside_watch(
    found: Mapping[str, Sequence[Measured]], judged: Sequence[int], options: argparse.Namespace
) -> Iterator[str]:
    alone, watched = ([run.step_s for run in found[name]] for name in ("alone", "watched"))
    yield "## With `sentinel watch` beside it\n"
    yield (
        f"A checkpoint every {options.save_every} steps, its time is in the step; "
        f"{statistics.median(judged):g} of {-(-options.steps // options.save_every)} were judged "
        "before the training had ended.\n"
    )
    yield "| step alone | step watched | watched in times of alone |\n|---|---|---|"
    times = " | ".join(f"{statistics.median(steps) * 1000:.1f} ms" for steps in (alone, watched))
    yield f"| {times} | {ratio(watched, alone)} |"


def _words(size: Mapping[str, int]) -> str:
    layers, hidden = size["num_hidden_layers"], size["hidden_size"]
    return f"{layers} layers of {hidden}, vocabulary {size['vocab_size']}"


def _trl_version(python: str) -> str:
    code = "import importlib.metadata; print(importlib.metadata.version('trl'))"
    done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


if __name__ == "__main__":
    main()
