"""Hands ai-toolkit modules of a few numbers in place of a download, and a loss without pictures."""

from __future__ import annotations

import importlib
import sys

from _ai_toolkit_tiny import STAND_INS, trainer_class
from _stubs import stand_in

stand_in(*STAND_INS, "dotenv")
sys.dont_write_bytecode = True
importlib.import_module("diffusers.pipelines.ltx2.export_utils").encode_video = None
_trainer = trainer_class()
_job = importlib.import_module("jobs.ExtensionJob")
_job.get_all_extensions_process_dict = lambda: {"sd_trainer": _trainer}
