"""`config.json`: what Transformers and diffusers write about a model, read into settings.

Source: src/transformers/configuration_utils.py of https://github.com/huggingface/transformers,
src/diffusers/configuration_utils.py of https://github.com/huggingface/diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping

from sentinel.formats.scalars import as_text
from sentinel.formats.settings import Setting

NAME = "config.json"


def settings_of_model(content: Mapping[str, object]) -> dict[str, Setting]:
    """Return the settings that a model's own description tells, by dotted name."""
    listed = content.get("architectures")
    architectures = listed if isinstance(listed, list) and listed else [None]
    found = {
        "model.architecture": as_text(architectures[0]) or as_text(content.get("_class_name")),
        "versions.transformers": as_text(content.get("transformers_version")),
        "versions.diffusers": as_text(content.get("_diffusers_version")),
    }
    return {name: value for name, value in found.items() if value is not None}
