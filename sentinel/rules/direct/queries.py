"""Reading queries."""

from __future__ import annotations

from functools import lru_cache

from sentinel.rules.direct.expressions import Reader
from sentinel.rules.direct.syntax import (
    Expression,
    Item,
    NotDirect,
    Query,
    Select,
    Source,
    aggregates,
)
from sentinel.rules.direct.tokens import tokens_of

_REMEMBERED = 1024


@lru_cache(_REMEMBERED)
def query_of(sql: str) -> Query | None:
    """Return the tree of one query, None when it is not of the kind that is answered directly."""
    try:
        reader = Reader(tokens_of(sql), _query)
        found = _query(reader)
    except NotDirect:
        return None
    return found if reader.now.kind == "end" else None


@lru_cache(_REMEMBERED)
def expression_of(sql: str) -> Expression | None:
    """Return the tree of one expression, None when it is not of that kind."""
    try:
        reader = Reader(tokens_of(sql), _query)
        found = reader.expression()
    except NotDirect:
        return None
    return found if reader.now.kind == "end" else None


def _query(reader: Reader) -> Query:
    named: list[tuple[str, Query]] = []
    if reader.takes("with"):
        while not named or reader.takes(","):
            name = reader.name()
            if name is None or not reader.takes("as", "("):
                raise NotDirect
            named.append((name, reader.query()))
    selects = [_select(reader)]
    while reader.takes("union", "all"):
        selects.append(_select(reader))
    order = reader.order() if reader.takes("order", "by") else ()
    limit = reader.expression() if reader.takes("limit") else None
    return Query(tuple(named), tuple(selects), order, limit)


def _select(reader: Reader) -> Select:
    items: tuple[Item, ...] = (Item(None),)
    distinct = False
    if reader.takes("select"):
        distinct = reader.takes("distinct")
        items = _items(reader)
    elif not reader.sees("from"):
        raise NotDirect
    sources = _sources(reader) if reader.takes("from") else ()
    where = reader.expression() if reader.takes("where") else None
    groups = None
    if reader.takes("group", "by"):
        groups = _all_plain(items) if reader.takes("all") else reader.listed()
    having = reader.expression() if reader.takes("having") else None
    grouped = groups is not None or any(
        one.expression is not None and aggregates(one.expression) for one in items
    )
    return Select(items, sources, where, groups, having, distinct, grouped)


def _all_plain(items: tuple[Item, ...]) -> tuple[Expression, ...]:
    if any(item.expression is None for item in items):
        raise NotDirect
    return tuple(
        one.expression for one in items if one.expression and not aggregates(one.expression)
    )


def _items(reader: Reader) -> tuple[Item, ...]:
    found: list[Item] = []
    while not found or reader.takes(","):
        found.append(_item(reader))
    return tuple(found)


def _item(reader: Reader) -> Item:
    if reader.takes("*"):
        if reader.sees("exclude", "replace", "like"):
            raise NotDirect
        return Item(None)
    if reader.sees(".", ahead=1) and reader.sees("*", ahead=2):
        table = reader.name()
        reader.take()
        reader.take()
        return Item(None, table=table)
    expression = reader.expression()
    if reader.takes("as"):
        alias = reader.name()
        if alias is None:
            raise NotDirect
        return Item(expression, alias)
    return Item(expression, reader.name())


def _sources(reader: Reader) -> tuple[Source, ...]:
    found = [_source(reader, "cross")]
    while True:
        if reader.takes(","):
            found.append(_source(reader, "cross"))
        elif reader.takes("left", "join"):
            found.append(_source(reader, "left"))
        elif reader.takes("inner", "join") or reader.takes("join"):
            found.append(_source(reader, "inner"))
        else:
            return tuple(found)


def _source(reader: Reader, join: str) -> Source:
    origin: str | Query | None = reader.query() if reader.takes("(") else reader.name()
    if origin is None or reader.sees("(", "."):
        raise NotDirect  # a function of tables, or another schema
    reader.takes("as")
    alias = reader.name()
    if join == "cross":
        return Source(origin, alias)
    if reader.takes("on"):
        return Source(origin, alias, join, on=reader.expression())
    reader.want("using")
    reader.want("(")
    using: list[str] = []
    while not using or reader.takes(","):
        name = reader.name()
        if name is None:
            raise NotDirect
        using.append(name)
    reader.want(")")
    return Source(origin, alias, join, using=tuple(using))
