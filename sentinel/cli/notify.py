"""`sentinel notify`: whether messages about runs arrive."""

from __future__ import annotations

import os
from pathlib import Path

import click

from sentinel.cli.exit_codes import UNREADABLE
from sentinel.cli.options import EXISTING, settled
from sentinel.cli.output import complain, say
from sentinel.errors import ConfigError


@click.group()
def command() -> None:
    """Look after the messages that `notify` in sentinel.yaml asks for.

    \b
    Examples:
      sentinel notify test
      sentinel notify test --to discord://ID/TOKEN
    """


@command.command("test")
@click.option(
    "--to",
    "urls",
    multiple=True,
    metavar="URL",
    help="An address of apprise's, instead of those of sentinel.yaml; may be given several times.",
)
@click.option(
    "--config",
    "config_path",
    type=EXISTING,
    help="The settings file.  [default: sentinel.yaml here]",
)
def test(urls: tuple[str, ...], config_path: Path | None) -> int:
    """Send a message as a faulty checkpoint would, and tell what came of it.

    Each address is shown without its secrets. The exit code is 2 when one was not reached.

    \b
    Examples:
      sentinel notify test
      sentinel notify test --to json://localhost:8000/hook
    """
    from sentinel.engines.isolated import IsolatedWorker
    from sentinel.errors import WorkerDiedError, WorkerTimeoutError
    from sentinel.notices.addresses import resolved
    from sentinel.notices.delivering import Delivery, deliver
    from sentinel.notices.notice import example, message_of

    settings = settled(config_path).notify
    wanted = resolved(urls or settings.urls, os.environ)
    if not wanted:
        raise ConfigError(
            "setting 'notify.urls'", fact="names no address", todo="add one, or give --to URL"
        )
    message = message_of([example()], settings)
    failed = False
    with IsolatedWorker() as worker:
        for number, url in enumerate(wanted, 1):
            try:
                done = worker.call(deliver, url, message, None, timeout_s=settings.timeout_s)
            except (WorkerDiedError, WorkerTimeoutError) as error:
                done = Delivery(f"address {number}", error.fact)
            failed = failed or bool(done.why)
            if done.why:
                complain(f"{done.shown}: not delivered: {done.why}")
            else:
                say(f"{done.shown}: delivered\n")
    return UNREADABLE if failed else 0
