"""Event files beside the training's: TensorBoard shows both when it is given the directory.

One directory a run, in it one of ours for each attempt (a repair goes back to an earlier step)
and a link to where the training logs.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from sentinel.alerting import Tracker
from sentinel.trackers.places import event_directory
from sentinel.trackers.point import PREFIX, Point

TRAINING = "training"
"""The name of the link to the training's own logs."""


class EventFiles:
    """The event files of one run; needs the package ``tensorboard``."""

    def __init__(self, settings: Tracker, state: Path, first: Point) -> None:
        self._top = (settings.directory or state / "tensorboard") / first.directory_name
        self._writers: dict[int, Any] = {}
        self._top.mkdir(parents=True, exist_ok=True)
        logs = event_directory(first.place)
        if logs is not None:
            with suppress(OSError):  # it is there already, or the system has no links
                (self._top / TRAINING).symlink_to(logs, target_is_directory=True)
        self.hint = f"TensorBoard: tensorboard --logdir '{self._top}'"

    def write(self, point: Point) -> None:
        """Write a point; it is on the disk when this returns."""
        from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415 - an extra
        from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415
        from tensorboard.plugins.text.metadata import create_summary_metadata  # noqa: PLC0415
        from tensorboard.util.tensor_util import make_tensor_proto  # noqa: PLC0415

        values = [
            Summary.Value(tag=f"{PREFIX}{name}", simple_value=value)
            for name, value in point.values.items()
        ]
        if point.text:
            metadata = create_summary_metadata(display_name="", description="")
            tensor = make_tensor_proto([point.text.encode()])
            tag = f"{PREFIX}says"
            values.append(Summary.Value(tag=tag, metadata=metadata, tensor=tensor))
        writer = self._writer(point.attempt)
        summary = Summary(value=values)
        writer.add_event(Event(wall_time=point.at_s, step=point.step, summary=summary))
        writer.flush()

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, attempt: int) -> Any:
        if attempt not in self._writers:
            from tensorboard.summary.writer.event_file_writer import (  # noqa: PLC0415
                EventFileWriter,
            )

            directory = self._top / f"sentinel-attempt-{attempt}"
            self._writers[attempt] = EventFileWriter(str(directory))
        return self._writers[attempt]
