"""Pin a checkpoint and die, for real, just before the n-th thing that is done to the disk.

`killed_pinning.py N CHECKPOINT STORE RUN`; Python tells of each such thing beforehand, by an
audit event (https://docs.python.org/3/library/audit_events.html).
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path

from sentinel.formats.opening import open_checkpoint
from sentinel.repairs.pin_copy import Source, files_of, take
from sentinel.repairs.pins import PinStore

STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.utime", "fcntl.ioctl")

number, store = int(sys.argv[1]), sys.argv[3]
counting = itertools.count(1)


def killing(event: str, arguments: tuple[object, ...]) -> None:
    if event not in STEPS or (event in {"open", "os.mkdir"} and store not in str(arguments[0])):
        return
    if next(counting) == number:
        os.kill(os.getpid(), signal.SIGKILL)


source = Source.of(
    open_checkpoint(Path(sys.argv[2])),
    run_id=sys.argv[4],
    attempt=1,
    checkpoint_id="abc",
    seq=1,
)
files = files_of(source)
sys.addaudithook(killing)
take(PinStore(Path(store)), source, files, stopped=lambda: False)
