"""`sentinel ui`: a live page over the health log."""

from __future__ import annotations

import os
from pathlib import Path

import click

from sentinel.cli.options import ANY_PATH, rules_of, settled, stateful
from sentinel.cli.output import complain
from sentinel.errors import ConfigError


@click.command()
@stateful
@click.option("--config", "config_path", type=ANY_PATH, help="The settings file.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8321,
    show_default=True,
    help="The port; 0 takes any that is free.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    help="A further name that the page is asked for by, as that of a proxy; may be repeated.",
)
@click.option("--token-file", type=ANY_PATH, help="A file that holds the token to come in with.")
@click.option("--open", "opens", is_flag=True, help="Also open the page in the browser.")
def command(
    log: Path | None,
    state: Path | None,
    config_path: Path | None,
    host: str,
    port: int,
    names: tuple[str, ...],
    token_file: Path | None,
    opens: bool,
) -> None:
    """Show all runs on a live page: charts, findings, checkpoints, rules, events.

    The page reads the health log, updates while trainings go on, and changes nothing: what can be
    done about a finding stands there as a command to copy. Ctrl-C ends it. It needs the extra `ui`.

    Without --host only this machine reaches it. Any other address needs a token, from --token-file
    or SENTINEL_UI_TOKEN.

    \b
    Examples:
      sentinel ui --open
      sentinel ui --state /var/lib/checkpoint-sentinel/srv-training
      sentinel ui --host 0.0.0.0 --name gpu1.example.org --token-file token
    """
    try:
        from sentinel.ui.serving import Serving, serve, token_of
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "sentinel":
            raise
        raise ConfigError(
            "ui",
            fact=f"{error.name} is not installed",
            todo="run `pip install 'checkpoint-sentinel[ui]'`",
        ) from error
    from sentinel.daemon.places import places_of

    config = settled(config_path, state, log)
    places = places_of(config)
    given = (("--state", state), ("--config", config_path))
    options = [word for name, path in given if path for word in (name, str(path.absolute()))]
    serve(
        places.log,
        places.journal,
        {rule.id: rule for rule in rules_of(config, ())},
        Serving(host, port, names, token_of(token_file, os.environ), opens),
        options=options,
        on_ready=lambda address: complain(
            f"the health log '{places.log}' is shown at {address} (Ctrl-C ends it)"
        ),
    )
