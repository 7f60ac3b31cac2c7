"""OneTrainer: real trainings at toy size by its own `scripts/train.py`, its savers and its parser.

Needs, beside the libraries of this project, transformers as OneTrainer pins it (5.5), parse,
tensorboard and prodigyopt. `mgds`, torchvision, PyAV and OpenCV are stand-ins; reading the base
model, the data loader and the clock are replaced (`_onetrainer_home.py`). With `older` as second
argument it only writes what `_onetrainer_formats.before_the_renaming` reads.
"""

# ruff: noqa: PLC0415 - a trainer can be imported only once its checkout was entered

from __future__ import annotations

import json
import logging
import sys
import warnings
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path

from _onetrainer_home import enter, set_clock, set_dates

LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "prodigyopt")


def main() -> None:
    """Print what OneTrainer writes and accepts, as one line of JSON."""
    checkout = Path(sys.argv[1])
    scratch = enter(checkout)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with redirect_stdout(sys.stderr):
        import _onetrainer_formats as formats

        set_dates()
        if sys.argv[2:] == ["older"]:
            formats.write_older(scratch)
            return
        facts = _facts(checkout, scratch)
    # Where the checkout and the scratch directory lie is nobody's business.
    print(json.dumps(facts).replace(f"{scratch}/", "").replace(str(scratch), "."))


def _facts(checkout: Path, scratch: Path) -> dict[str, object]:
    import _onetrainer_formats as formats
    import _onetrainer_runs as runs
    import _onetrainer_settings as settings

    set_clock()
    return {
        "repository": "https://github.com/Nerogar/OneTrainer",
        "libraries": {name: version(name) for name in LIBRARIES},
        "accepts": settings.accepted(),
        "overriding": settings.overriding(runs.configuration(scratch, "overriding")),
        "latest": settings.latest(scratch),
        "grad_scaling": settings.grad_scaling(),
        "run": runs.whole_run(scratch),
        "optimizers": runs.by_optimizer(scratch),
        "resuming": runs.resuming(scratch),
        "nan_loss": runs.spoiled(scratch),
        "failed_backup": runs.failed_backup(scratch),
        "start": formats.at_start(scratch),
        "formats": formats.by_format(scratch),
        "before_the_renaming": formats.before_the_renaming(checkout, scratch),
    }


if __name__ == "__main__":
    main()
