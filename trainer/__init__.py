"""The bundled trainer: LoRA and DoRA fine-tuning on Transformers' Trainer, PEFT and bitsandbytes.

It knows nothing of sentinel; the two meet in the files of a checkpoint. `main.py` is the
command, `recipe.py` says what can be asked for, `checkpoints.py` and `manifest.py` what comes
out. Only the modules that `session.py` imports load torch.
"""

from __future__ import annotations

__version__ = "0.1.0"
