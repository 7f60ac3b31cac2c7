"""The catalogue: all rules, and the page of each."""

from __future__ import annotations

from sentinel.reports.words import remedy_words, shown
from sentinel.rules.rule import AtLeast, Rule
from sentinel.ui.look import Look
from sentinel.ui.markup import prose
from sentinel.ui.pages import Asked, NotThereError, Page, Part
from sentinel.verdict import LEVEL_OF

PARAMETERS = ("severity", "scope", "q")
SEVERITIES = ("critical", "unreadable", "warning", "info")
SCOPES = ("content", "run")


def rules_page(look: Look, asked: Asked) -> Page:
    """Return the page of all rules that the filters leave."""
    severity, scope = asked.choice("severity", SEVERITIES), asked.choice("scope", SCOPES)
    text = asked["q"].lower()
    rules = [
        rule
        for rule in sorted(look.rules.values(), key=lambda rule: rule.id)
        if severity in {"", rule.severity}
        and scope in {"", rule.scope}
        and text in f"{rule.id} {rule.title} {rule.page.what}".lower()
    ]
    controls = look.render("rules_filter.html", asked=asked, severities=SEVERITIES, scopes=SCOPES)
    table = look.render("rules.html", rules=rules, total=len(look.rules))
    return Page("Rules", "rules", (Part("controls", controls), Part("rules", table)))


def rule_page(look: Look, asked: Asked, rule_id: str) -> Page:  # noqa: ARG001 - pages are asked alike
    """Return the page of a rule; raises NotThereError for one that is not in the catalogue."""
    rule = look.rules.get(rule_id)
    if rule is None:
        raise NotThereError(
            f"rule '{shown(rule_id)}'",
            fact="is not in the catalogue",
            todo="see the list of all rules",
        )
    html = look.render(
        "rule.html",
        rule=rule,
        level=LEVEL_OF[rule.severity],
        what=prose(rule.page.what),
        why=prose(rule.page.why),
        fix=prose(rule.page.fix),
        remedy=remedy_words(rule.remedy),
        match=_match(rule),
        fires=[one.name for one in rule.examples if one.fires],
        quiet=[one.name for one in rule.examples if not one.fires],
    )
    return Page(rule.title, "rules", (Part("rule", html),))


def _match(rule: Rule) -> str:
    if isinstance(rule.match, AtLeast):
        return f"at least {rule.match.at_least:.0%} of the rows"
    return {"any": "any row", "all": "all rows"}[rule.match]
