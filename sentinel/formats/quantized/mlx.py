"""MLX's affine codes: `weight` U32 [out, in·bits/32] with `scales` and biases [out, in/group].

Apple's mlx-lm writes them (`biases`), and Transformers' Metal kernels (`qbiases`). Sources:
mlx/nn/layers/quantized.py of https://github.com/ml-explore/mlx,
transformers/integrations/metal_quantization.py.
"""

from __future__ import annotations

from sentinel.formats.quantized.stored import PRECISIONS, Packed, Stored
from sentinel.formats.scalars import as_count

PARTS = frozenset({"weight", "scales", "biases", "qbiases"})

_KNOWN_BITS = frozenset({2, 3, 4, 5, 6, 8})


def unpack(stored: Stored) -> Packed | None:
    """Return the weight; the length of a group, which the description names, tells the inputs."""
    words, scales = stored.shape("weight"), stored.shape("scales")
    if stored.dtype("weight") != "U32" or words is None or scales is None:
        return None
    group = as_count(stored.description.settings.get("group_size")) or 0
    width = scales[1] * group
    bits = words[1] * 32 / width if width else None
    is_whole = bits in _KNOWN_BITS and scales[0] == words[0]
    name = int(bits) if bits is not None and is_whole else stored.description.bits
    return Packed(
        f"mlx-int{name}",
        stored.parts["weight"],
        (words[0], width if is_whole else None),
        PRECISIONS.get(stored.dtype("scales")),
    )
