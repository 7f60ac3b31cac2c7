"""`sentinel rules`: the catalogue, one rule's page, and every rule's own examples."""

from __future__ import annotations

from pathlib import Path

import click

from sentinel.cli.options import EXISTING, console, rules_of, settled
from sentinel.errors import ConfigError

_PATHS = click.option(
    "--rules", "rule_paths", type=EXISTING, multiple=True, help="Rules of your own."
)


@click.group()
def command() -> None:
    """List, show and test the rules.

    \b
    Examples:
      sentinel rules list
      sentinel rules show dead-lora-up
      sentinel rules test --rules my-rules/
    """


@command.command("list")
@_PATHS
def list_rules(rule_paths: tuple[Path, ...]) -> None:
    """List every rule: id, severity, how sure it is, and what it means."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("rule", "severity", "safety", "judges", "title"):
        table.add_column(heading, no_wrap=heading != "title")
    for rule in rules_of(settled(None), rule_paths):
        table.add_row(rule.id, rule.severity, rule.safety, rule.scope, rule.title)
    console().print(table)


@command.command("show")
@click.argument("rule_id")
@_PATHS
def show_rule(rule_id: str, rule_paths: tuple[Path, ...]) -> None:
    """Show one rule's page: what, why, how to fix, where it was seen."""
    import difflib

    from rich.markdown import Markdown

    from sentinel.rules.pages import render_rule

    rules = {rule.id: rule for rule in rules_of(settled(None), rule_paths)}
    if rule_id not in rules:
        near = difflib.get_close_matches(rule_id, rules, n=1)
        raise ConfigError(
            f"rule '{rule_id}'",
            fact="is not in the catalogue",
            todo=f"did you mean '{near[0]}'?" if near else "see `sentinel rules list`",
        )
    console().print(Markdown(render_rule(rules[rule_id])))


@command.command("test")
@_PATHS
def test_rules(rule_paths: tuple[Path, ...]) -> int:
    """Run every rule on its own examples; exit code 1 when one does not do as it says."""
    from sentinel.rules.examples import check_examples
    from sentinel.rules.load import load_rules

    failed = passed = 0
    for rule in load_rules(rule_paths, check_bundled=True):
        for result in check_examples(rule):
            if result.passed:
                passed += 1
            else:
                failed += 1
                click.echo(f"{rule.id}: {result.example}: {result.detail}")
    click.echo(f"{passed} passed, {failed} failed")
    return 1 if failed else 0
