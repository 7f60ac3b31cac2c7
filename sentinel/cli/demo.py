"""`sentinel demo`: the main job, on a real training run."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import click

from sentinel.cli.options import ANY_PATH
from sentinel.cli.output import console
from sentinel.errors import ConfigError


@click.command()
@click.option("--healthy", is_flag=True, help="Train the healthy twins: nothing should fire.")
@click.option("--dir", "directory", type=ANY_PATH, help="A new directory for everything it makes.")
@click.option(
    "--scene",
    "only",
    type=click.Choice(["demo-zero", "demo-nan"]),
    multiple=True,
    help="Play this scene only.",
)
@click.option("--svg", type=ANY_PATH, help="Also save what was shown as a picture.")
def command(healthy: bool, directory: Path | None, only: tuple[str, ...], svg: Path | None) -> int:
    """Train a tiny model for real, see it go wrong by itself, and see it repaired.

    Needs the bundled trainer's libraries (the extra `trainer`), no GPU and no network. Exit
    code 0 when every run ended on a healthy checkpoint.

    \b
    Examples:
      sentinel demo
      sentinel demo --healthy
    """
    from sentinel.demo.show import demo_config, run_demo
    from sentinel.demo.table import summary_table

    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    workspace = (directory or Path("sentinel-demo") / stamp).absolute()
    if workspace.exists():
        raise ConfigError(
            "directory", where=f"'{workspace}'", fact="already exists", todo="name a new one"
        )
    out = console(record=svg is not None)
    end = run_demo(workspace, out, healthy=healthy, only=only)
    state = _near(demo_config(workspace).state or workspace)
    out.print()
    out.print(summary_table(end))
    out.print(f"\nTook {end.took_s:.0f} s. The health log: {state}/health", soft_wrap=True)
    out.print(f"Read it:  sentinel log --state {state}", soft_wrap=True)
    out.print(f"See it:   sentinel report --state {state}", soft_wrap=True)
    if svg is not None:
        # Without the web fonts rich names: the picture must need no network.
        picture = re.sub(
            r"@font-face \{.*?\}", "", out.export_svg(title="sentinel demo"), flags=re.DOTALL
        )
        svg.write_text(picture, encoding="utf-8")
    good = all(
        scene.code == 0 and scene.judged and scene.judged[-1].level == "healthy"
        for scene in end.scenes
    )
    return 0 if good else 1


def _near(path: Path) -> Path:
    """Return a path as it is typed here, where that is shorter."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
