"""The shape of a rule file: what its keys are called and what they may hold.

This is also the source of `docs/rule.schema.json`. New keys get a default, so that a rule
written today loads tomorrow. What is read becomes a `sentinel.rules.rule.Rule`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sentinel.rules import rule
from sentinel.rules.rule import Cell, Parameter
from sentinel.verdict import Safety, Scope, Severity

TableName = Literal[
    "tensors",
    "pairs",
    "effects",
    "checkpoint",
    "metrics",
    "faults",
    "base",
    "optimizer",
    "optimizer_groups",
    "config",
    "findings",
    "past_tensors",
    "past_pairs",
    "past_checkpoint",
]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Page(_Part):
    """What a reader is told about a rule."""

    what: str = Field(description="What the rule looks at and finds, in a sentence or two.")
    why: str = Field(description="Why that is a fault, with the mechanism.")
    fix: str = Field(description="What to change.")
    sources: list[Annotated[str, Field(pattern=r"^https://")]] = Field(
        default=[], description="Public threads, papers and format pages."
    )


class AtLeast(_Part):
    """Fire when this share of the rows in scope is bad."""

    at_least: float = Field(gt=0, le=1)


class Softer(_Part):
    """A milder severity for hits that are less sure."""

    when: str = Field(description="SQL truth value that aggregates over the hit rows.")
    severity: Severity


class Between(_Part):
    """A number is moved into a range; the lower end where nobody knows it."""

    between: Annotated[list[float], Field(min_length=2, max_length=2)]


class Times(_Part):
    """A number is multiplied."""

    times: float = Field(gt=0)


class Instead(_Part):
    """A value is replaced where it is this one, in whatever case."""

    instead_of: str
    use: Parameter


Wanted = Between | Times | Instead | Parameter


class Resume(_Part):
    """How to start again: the wish of a rule, which a plan weighs against the others."""

    precision: Literal["fp32", "bf16", "auto"] | None = None
    cause: Literal["resolution", "range"] | None = Field(
        default=None, description="What `auto` decides by: small updates lost, or overflow."
    )
    optimizer: Literal["keep", "drop"] | None = None
    begin: Literal["before"] | None = Field(
        default=None,
        description="The weights themselves are spoilt: begin before this, if need be at step 0.",
    )
    settings: dict[str, Wanted] | None = Field(
        default=None, description="Settings to change, under the names of docs/settings.md."
    )


class Remedy(_Part):
    """What a rule asks for."""

    resume: Resume | None = None


class Example(_Part):
    """Tables with sparse rows (absent columns are NULL) and what the rule must say of them."""

    name: str
    tables: dict[str, list[dict[str, Cell]]]
    held: int = Field(
        default=0, ge=0, description="In how many checkpoints before this one the predicate held."
    )
    fires: bool
    severity: Severity | None = None
    message_contains: str | None = None
    not_evaluated: str | None = Field(
        default=None, description="Text of the reason why the rule cannot be asked."
    )


class Rule(_Part):
    """One rule: a predicate over one table (or a query), and what follows when it is true."""

    model_config = ConfigDict(validate_by_name=False, validate_by_alias=True)

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    title: str
    scope: Scope
    severity: Severity
    safety: Safety
    since: str
    page: Page
    table: TableName | None = Field(default=None, description="The table `where` and `when` see.")
    query: str | None = Field(
        default=None, description="A SELECT that makes the table, for what no single one holds."
    )
    optional: list[TableName] = Field(
        default=[], description="Tables the query can do without: empty when unknown."
    )
    where: str = Field(default="true", description="SQL truth value: the rows in scope.")
    when: str = Field(default="true", description="SQL truth value: a row in scope is bad.")
    match: Literal["any", "all"] | AtLeast = "any"
    consecutive: int = Field(
        default=1,
        ge=1,
        alias="for",
        description="Fire when the predicate holds in so many checkpoints in a row.",
    )
    after_updates: int = Field(
        default=0, ge=0, description="Quiet before so many optimizer steps with a learning rate."
    )
    unknown_updates: Severity | None = Field(
        default=None, description="Severity when the number of updates is unknown."
    )
    exclude: list[str] = Field(
        default=[], description="Patterns of checkpoints' paths that the rule is not asked about."
    )
    names: str | None = Field(default=None, description="Column of tensor names to list.")
    parameters: dict[Identifier, Parameter] = Field(
        default={}, description="Numbers that SQL reads as $name and the user may override."
    )
    facts: dict[Identifier, str] = Field(
        default={}, description="SQL aggregates over the hit rows, for the message."
    )
    message: str = Field(description="Fact, cause and remedy; {hits} and the facts are filled in.")
    softer: Softer | None = None
    remedy: Remedy = Remedy()
    confirm: bool = Field(
        default=False, description="Wait for a second equal reading: zeros may be preallocated."
    )
    examples: list[Example]


def read_rule(data: object) -> rule.Rule:
    """Return the rule that a file's data describes.

    Raises pydantic's ValidationError where its shape is wrong.
    """
    shaped = Rule.model_validate(data)
    remedy = shaped.remedy.model_dump(exclude_none=True)
    return rule.rule_of({**shaped.model_dump(), "remedy": remedy})
