#!/bin/sh
# A wheel installed alone, without torch, scans a checkpoint with its own rules.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install \
    -c "$here/constraints.txt" "$here" safetensors
cd "$work"
mkdir out
"$work/venv/bin/python" - <<'PYTHON'
import numpy
from safetensors.numpy import save_file

generator = numpy.random.default_rng(0)
for name, up in (("good", generator.standard_normal((8, 4))), ("bad", numpy.full((8, 4), numpy.nan))):
    save_file(
        {
            "lora_unet_a.lora_down.weight": generator.uniform(-0.35, 0.35, (4, 8)).astype("float32"),
            "lora_unet_a.lora_up.weight": up.astype("float32"),
            "lora_unet_a.alpha": numpy.array(4, "float32"),
        },
        f"out/{name}.safetensors",
        metadata={"ss_steps": "100", "ss_network_dim": "4", "ss_network_alpha": "4"},
    )
PYTHON
code=0
"$work/venv/bin/sentinel" scan out --format json > report.json || code=$?
"$work/venv/bin/python" - "$code" <<'PYTHON'
import importlib.util
import json
import sys

report = json.load(open("report.json"))
verdicts = {entry["path"].rsplit("/", 1)[-1]: entry["verdict"] for entry in report["checkpoints"]}
assert verdicts == {"good.safetensors": "healthy", "bad.safetensors": "faulty"}, verdicts
assert sys.argv[1] == "1", f"exit code {sys.argv[1]}"
assert importlib.util.find_spec("torch") is None
print("the wheel alone scans: ", verdicts)
PYTHON
"$work/venv/bin/sentinel" rules test > /dev/null
echo "1 passed, 0 failed"
