"""Keep the libraries' chatter off the terminal; errors stay."""

from __future__ import annotations

import logging
import os
import warnings


def before_imports() -> None:
    """Say so in the ways that have to be said before the libraries are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("bitsandbytes", "torchao", "torch.utils._pytree", "DeepSpeed"):
        logging.getLogger(name).setLevel(logging.ERROR)


def after_imports() -> None:
    """Silence loading bars, advice, and warnings that speak of what is done on purpose."""
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for message in (
        r".*lr_scheduler\.step.*",  # the schedule is put at the resumed step before any step
        r".*pin_memory.*",  # said on machines without an accelerator
        r".*fan_in_fan_out.*",
        r"Paged optimizers are not supported on CPU.*",
    ):
        warnings.filterwarnings("ignore", message=message)
    # What one library tells another about its next version is not for our users.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft)\b.*")
