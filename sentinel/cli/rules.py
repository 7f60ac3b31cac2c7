"""`sentinel rules`: the catalogue, one rule's page, and every rule's own examples."""

from __future__ import annotations

from pathlib import Path

import click

from sentinel.cli import completing
from sentinel.cli.options import EXISTING, rules_of, settled_verdicts
from sentinel.cli.output import console, say, say_rows
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
    """List every rule: id, severity, how sure it is, and what it means.

    \b
    Examples:
      sentinel rules list
      sentinel rules list --rules my-rules/
    """
    from sentinel.reports.table import Rows

    rows = [
        (rule.id, rule.severity, rule.safety, rule.scope, rule.title)
        for rule in sorted(rules_of(settled_verdicts(None), rule_paths), key=lambda rule: rule.id)
    ]
    say_rows(Rows(("rule", "severity", "safety", "scope", "title"), tuple(rows)), "text")


@command.command("show")
@click.argument("rule_id", shell_complete=completing.rules)
@_PATHS
def show_rule(rule_id: str, rule_paths: tuple[Path, ...]) -> None:
    """Show one rule's page: what, why, how to fix, where it was seen.

    \b
    Examples:
      sentinel rules show dead-lora-up
    """
    import difflib

    from rich.markdown import Markdown

    from sentinel.rules.pages import render_rule

    rules = {rule.id: rule for rule in rules_of(settled_verdicts(None), rule_paths)}
    if rule_id not in rules:
        near = difflib.get_close_matches(rule_id, rules, n=1)
        raise ConfigError(
            f"rule '{rule_id}'",
            fact="is not in the catalogue",
            todo=f"did you mean '{near[0]}'?" if near else "see `sentinel rules list`",
        )
    out, page = console(), render_rule(rules[rule_id])
    if out.is_terminal:
        out.print(Markdown(page))
    else:
        say(page)


@command.command("test")
@_PATHS
def test_rules(rule_paths: tuple[Path, ...]) -> int:
    """Run every rule on its own examples; exit code 1 when one does not do as it says.

    \b
    Examples:
      sentinel rules test
      sentinel rules test --rules my-rules/
    """
    from sentinel.reports.words import shown
    from sentinel.rules.examples import check_examples
    from sentinel.rules.load import load_rules

    failed = passed = 0
    for rule in load_rules(rule_paths, check_bundled=True):
        for result in check_examples(rule):
            if result.passed:
                passed += 1
            else:
                failed += 1
                say(shown(f"{rule.id}: {result.example}: {result.detail}") + "\n")
    say(f"{passed} passed, {failed} failed\n")
    return 1 if failed else 0
