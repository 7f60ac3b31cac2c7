"""The commands that stand in the files of `deploy/` and on its page, as lists of words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").rglob("*.service"))
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
COMPOSE = DEPLOY / "docker" / "compose.yaml"
DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
SBATCH = DEPLOY / "slurm" / "train.sbatch"
PAGE = ROOT / "docs" / "deploy.md"

Words = list[str]


def settings(unit: Path) -> dict[str, str]:
    """The settings of a unit, the last of each name."""
    lines = unit.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Z]\w+=", line))


def jobs(manifest: Path) -> list[dict[str, Any]]:
    """The Jobs of a Kubernetes manifest."""
    documents = yaml.safe_load_all(manifest.read_text(encoding="utf-8"))
    return [one for one in documents if one["kind"] == "Job"]


def compose() -> dict[str, Any]:
    """The compose file."""
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


def deployed() -> dict[str, Words]:
    """Every sentinel and sentinel-train command, by where it stands."""
    found: dict[str, Words] = {}
    for where, words in _all():
        found.setdefault(where, words)
    return found


def _all() -> Iterator[tuple[str, Words]]:
    for unit in UNITS:
        yield str(unit.relative_to(DEPLOY)), shlex.split(settings(unit)["ExecStart"])
    for manifest in MANIFESTS:
        for job in jobs(manifest):
            pod = job["spec"]["template"]["spec"]
            for container in (*pod.get("initContainers", []), *pod["containers"]):
                words = container.get("command", ["sentinel"]) + container.get("args", [])
                if words[0].startswith("sentinel"):
                    yield f"{manifest.name}: {container['name']}", words
    services = compose()["services"]
    yield "compose.yaml: sentinel", ["sentinel", *services["sentinel"]["command"]]
    yield "compose.yaml: trainer", services["trainer"]["command"]
    defaults = re.findall(r"^CMD (\[.*\])$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    for number, line in enumerate(defaults):
        words = yaml.safe_load(line)
        yield f"Dockerfile: {number}", words if words[0] == "sentinel" else ["sentinel", *words]
    for script in (SBATCH, PAGE):
        text = script.read_text(encoding="utf-8")
        for line in re.findall(r"^ *(sentinel \w.*)$", text, re.MULTILINE):
            words = shlex.split(line.removesuffix("&"), comments=True)
            yield f"{script.name}: {line[:60]}", [word.strip("\\") for word in words]
