"""Reading expressions: operators by their precedence in DuckDB, loosest first."""

from __future__ import annotations

from collections.abc import Callable

from sentinel.rules.direct.cursor import RESERVED, Cursor
from sentinel.rules.direct.syntax import (
    Call,
    Expression,
    Inner,
    Literal,
    Name,
    NotDirect,
    Opaque,
    Operation,
    Order,
    Parameter,
    Query,
    Window,
)
from sentinel.rules.direct.tokens import Token

_COMPARISONS = frozenset({"=", "<>", "!=", "<", "<=", ">", ">="})
_CONSTANTS = {"true": True, "false": False, "null": None}
_DEEPEST = 60


class Reader(Cursor):
    """The reading of expressions from a place in the tokens of one text."""

    def __init__(self, tokens: list[Token], read_query: Callable[[Reader], Query]) -> None:
        super().__init__(tokens)
        self._depth = 0
        self._read_query = read_query

    def listed(self) -> tuple[Expression, ...]:
        """Read expressions with commas between them."""
        found = [self.expression()]
        while self.takes(","):
            found.append(self.expression())
        return tuple(found)

    def order(self) -> tuple[Order, ...]:
        """Read the keys behind ORDER BY."""
        found: list[Order] = []
        while not found or self.takes(","):
            key = self.expression()
            descending = self.takes("desc")
            if not descending:
                self.takes("asc")
            found.append(Order(key, descending))
        return tuple(found)

    def query(self) -> Query:
        """Read a query up to the bracket that closes it."""
        found = self._read_query(self)
        self.want(")")
        return found

    def expression(self) -> Expression:
        """Read one expression."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise NotDirect
        found = self._conjunction()
        while self.takes("or"):
            found = Operation("or", (found, self._conjunction()))
        self._depth -= 1
        return found

    def _conjunction(self) -> Expression:
        found = self._negation()
        while self.takes("and"):
            found = Operation("and", (found, self._negation()))
        return found

    def _negation(self) -> Expression:
        if self.takes("not"):
            return Operation("not", (self._negation(),))
        return self._truth()

    def _truth(self) -> Expression:
        found = self._comparison()
        while self.takes("is"):
            turned = self.takes("not")
            if self.takes("null"):
                found = Operation("is null", (found,))
            elif self.takes("distinct", "from"):
                found = Operation("is distinct", (found, self._comparison()))
            else:
                raise NotDirect
            found = Operation("not", (found,)) if turned else found
        return found

    def _comparison(self) -> Expression:
        found = self._range()
        while self.now.kind == "sign" and self.now.text in _COMPARISONS:
            sign = self.take().text
            found = Operation("<>" if sign == "!=" else sign, (found, self._range()))
        return found

    def _range(self) -> Expression:
        found = self._joined()
        while True:
            turned = self.sees("not") and self.sees("in", "like", "between", ahead=1)
            if turned:
                self.take()
            if self.takes("in"):
                found = self._membership(found)
            elif self.takes("like"):
                found = self._like(found)
            elif self.takes("between"):
                low = self._joined()
                self.want("and")
                above = Operation(">=", (found, low))
                found = Operation("and", (above, Operation("<=", (found, self._joined()))))
            else:
                return found
            found = Operation("not", (found,)) if turned else found

    def _membership(self, operand: Expression) -> Expression:
        self.want("(")
        if self.sees("from", "select", "with"):
            return Inner("in", self.query(), operand)
        choices = self.listed()
        self.want(")")
        return Operation("in", (operand, *choices))

    def _like(self, operand: Expression) -> Expression:
        pattern = self._joined()
        escape: Expression = Literal("")
        if self.takes("escape"):
            escape = self._joined()
        return Operation("like", (operand, pattern, escape))

    def _joined(self) -> Expression:
        found = self._sum()
        while self.takes("||"):
            found = Operation("||", (found, self._sum()))
        return found

    def _sum(self) -> Expression:
        found = self._product()
        while self.sees("+", "-"):
            found = Operation(self.take().text, (found, self._product()))
        return found

    def _product(self) -> Expression:
        found = self._signed()
        while self.sees("*", "/"):
            found = Operation(self.take().text, (found, self._signed()))
        if self.sees("%"):
            raise NotDirect
        return found

    def _signed(self) -> Expression:
        if self.takes("-"):
            return Operation("negative", (self._signed(),))
        return self._cast()

    def _cast(self) -> Expression:
        found = self._primary()
        while self.takes("::"):
            found = Operation(f"cast {self._kind()}", (found,))
        return found

    def _kind(self) -> str:
        kind = self.name()
        if kind is None or self.sees("(", "["):
            raise NotDirect
        return kind

    def _primary(self) -> Expression:
        token = self.take()
        if token.kind == "number":
            return _number(token.text)
        if token.kind == "text":
            return self._text(token.text)
        if token.kind == "parameter":
            return Parameter(token.text)
        return self._bracketed(token.text) if token.kind == "sign" else self._worded(token)

    def _text(self, text: str) -> Expression:
        while self.now.kind == "text":
            text += self.take().text  # two that follow one another are one
        return Literal(text)

    def _worded(self, token: Token) -> Expression:
        """Read on behind a word: a constant, a construct, a function or a column."""
        if token.kind == "word" and token.text in _CONSTANTS:
            return Literal(_CONSTANTS[token.text])
        if token.kind == "word" and token.text in {"case", "exists"}:
            return self._case() if token.text == "case" else self._exists()
        if token.kind == "word" and token.text in RESERVED:
            raise NotDirect
        if self.sees("("):
            return self._call(token.text)
        if self.takes("."):
            column = self.name()
            if column is None:
                raise NotDirect
            return Name(column, token.text)
        return Name(token.text)

    def _bracketed(self, sign: str) -> Expression:
        if sign == "[" and not self.takes("]"):
            elements = self.listed()
            self.want("]")
            return Operation("list", elements)
        if sign in "[{":
            self._skip_brackets()
            return Opaque()
        if sign != "(":
            raise NotDirect
        if self.sees("from", "select", "with"):
            return Inner("scalar", self.query())
        found = self.expression()
        self.want(")")
        return found

    def _skip_brackets(self) -> None:
        open_ = 1
        while open_:
            token = self.take()
            if token.kind == "sign":
                open_ += (token.text in "([{") - (token.text in ")]}")

    def _exists(self) -> Expression:
        self.want("(")
        return Inner("exists", self.query())

    def _case(self) -> Expression:
        if not self.sees("when"):
            raise NotDirect
        parts: list[Expression] = []
        while self.takes("when"):
            parts.append(self.expression())
            self.want("then")
            parts.append(self.expression())
        parts.append(self.expression() if self.takes("else") else Literal(None))
        self.want("end")
        return Operation("case", tuple(parts))

    def _call(self, name: str) -> Expression:
        self.want("(")
        if name in {"cast", "try_cast"}:
            return self._cast_call(name)
        distinct = self.takes("distinct")
        operands: tuple[Expression, ...] = ()
        order: tuple[Order, ...] = ()
        if self.takes("*"):
            self.want(")")
        elif not self.takes(")"):
            operands = self.listed()
            if self.takes("order", "by"):
                order = self.order()
            self.want(")")
        only = self._only()
        return Call(name, operands, distinct, order, only, self._over())

    def _cast_call(self, name: str) -> Expression:
        found = self.expression()
        self.want("as")
        kind = self.name()
        if kind is None:
            raise NotDirect
        kind += "[]" if self.takes("[", "]") else ""
        self.want(")")
        return Operation(f"{name} {kind}", (found,))

    def _only(self) -> Expression | None:
        if not self.takes("filter"):
            return None
        self.want("(")
        self.takes("where")
        found = self.expression()
        self.want(")")
        return found

    def _over(self) -> Window | None:
        if not self.takes("over"):
            return None
        self.want("(")
        partition = self.listed() if self.takes("partition", "by") else ()
        order = self.order() if self.takes("order", "by") else ()
        self.want(")")
        return Window(partition, order)


def _number(text: str) -> Literal:
    if "." not in text and "e" not in text.lower():
        return Literal(int(text))
    return Literal(float(text), exact_decimal="e" not in text.lower())
