"""`sentinel-train export`: a PEFT checkpoint as other programs want it.

`command.py` is the command. `adapter.py` reads the checkpoint, `architectures.py` says what it
was trained on and what each program calls that, `files.py` writes one file of tensors under
those names, `merged.py` a whole model. Whatever the names, scale * up @ down stays what it was.
"""

from __future__ import annotations
