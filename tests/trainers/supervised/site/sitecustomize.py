"""Runs at the start of each of a trainer's interpreters: lets it find its code and stand-ins.

`SUPERVISED_PREFIX` is the trainer's environment: sentinel's own processes are left alone.
"""

from __future__ import annotations

import importlib
import os
import sys

if sys.prefix == os.environ.get("SUPERVISED_PREFIX"):
    sys.path[1:1] = filter(None, os.environ["SUPERVISED_PATH"].split(os.pathsep))
    packages = os.environ["SUPERVISED_STANDS_IN"].split()
    if packages:
        # Imported before anything seems to be there that is not: what is found is looked into.
        importlib.import_module("transformers.modeling_utils")
        importlib.import_module("transformers").utils.is_torchvision_available()
        importlib.import_module("_stubs").stand_in(*packages)
    if os.environ["SUPERVISED_FEEDS"]:
        importlib.import_module(os.environ["SUPERVISED_FEEDS"])
