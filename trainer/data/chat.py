"""A chat as tokens, and which of them are the assistant's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import RefusedError
from ..sections.data import Data

Tokens = list[int]


def set_template(tokenizer: Any, data: Data) -> None:
    """Give the tokenizer the recipe's chat template; refuse a chat without any."""
    if data.chat_template:
        path = Path(data.chat_template)
        try:
            tokenizer.chat_template = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RefusedError(
                f"data.chat_template '{path}'", f"can't be read ({error})"
            ) from error
    if not tokenizer.chat_template:
        fact = "the base's tokenizer has no chat template"
        raise RefusedError("data.style chat", fact, "set data.chat_template to a Jinja file")


def encode_chat(
    messages: list[dict[str, Any]], tokenizer: Any, place: str, *, replies_only: bool
) -> tuple[Tokens, list[bool]]:
    """Return a chat's tokens, and for each whether the loss counts it.

    A template that marks what the assistant says (`{% generation %}`) is believed; with any
    other, a reply is what the chat gains over the one before it with the reply's opening
    (`add_generation_prompt`), which works for templates that only ever append.
    """
    if not replies_only:
        tokens = _apply(messages, tokenizer, place)
        return tokens, [True] * len(tokens)
    if "generation %}" in tokenizer.chat_template or "generation -%}" in tokenizer.chat_template:
        found = _call(
            messages, tokenizer, place, return_dict=True, return_assistant_tokens_mask=True
        )
        return list(found["input_ids"]), [bool(value) for value in found["assistant_masks"]]
    tokens = _apply(messages, tokenizer, place)
    counted = [False] * len(tokens)
    for at, message in enumerate(messages):
        if message.get("role") != "assistant":
            continue
        before = _apply(messages[:at], tokenizer, place, add_generation_prompt=True) if at else []
        upto = _apply(messages[: at + 1], tokenizer, place)
        if tokens[: len(upto)] != upto or upto[: len(before)] != before:
            fact = "the chat template rewrites earlier turns, so replies can't be told apart"
            todo = "use a template with {% generation %} marks, or data.completion_only false"
            raise RefusedError(place, fact, todo)
        counted[len(before) : len(upto)] = [True] * (len(upto) - len(before))
    return tokens, counted


def _apply(messages: list[dict[str, Any]], tokenizer: Any, place: str, **options: Any) -> Tokens:
    return list(_call(messages, tokenizer, place, return_dict=False, **options))


def _call(messages: list[dict[str, Any]], tokenizer: Any, place: str, **options: Any) -> Any:
    import jinja2  # noqa: PLC0415 - the library's own templates need it

    try:
        return tokenizer.apply_chat_template(messages, tokenize=True, **options)
    except (jinja2.TemplateError, TypeError, KeyError, ValueError) as error:
        fact = f"the chat template can't take it ({' '.join(str(error).split())})"
        raise RefusedError(place, fact) from error
