"""One record as tokens and the labels that the loss counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import RefusedError
from ..sections.data import Data
from .chat import encode_chat
from .records import Record

IGNORED = -100
"""The label that torch's cross entropy leaves out."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A record's tokens; ``labels`` is as long, `IGNORED` where nothing is learnt."""

    tokens: list[int]
    labels: list[int]


def encode(record: Record, place: str, data: Data, tokenizer: Any) -> Encoded:
    """Return a record of the recipe's style, its end mark included, not cut."""
    if data.style == "text":
        tokens = [*tokenizer(text_of(record, place, data.text_key))["input_ids"], *_end(tokenizer)]
        return Encoded(tokens, list(tokens))
    if data.style == "prompt-completion":
        return _encode_completion(record, place, data, tokenizer)
    messages = record.get(data.messages_key)
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        raise RefusedError(
            place, f"no list of messages under '{data.messages_key}'", "check data.messages_key"
        )
    tokens, counted = encode_chat(messages, tokenizer, place, replies_only=data.completion_only)
    return Encoded(
        tokens, [token if own else IGNORED for token, own in zip(tokens, counted, strict=True)]
    )


def text_of(record: Record, place: str, key: str, setting: str = "text_key") -> str:
    """Return a record's text under ``key``, or refuse the record."""
    text = record.get(key)
    if not isinstance(text, str):
        raise RefusedError(place, f"no text under '{key}'", f"check data.{setting}")
    return text


def _encode_completion(record: Record, place: str, data: Data, tokenizer: Any) -> Encoded:
    """Return prompt and completion, made into tokens apart, as a model is asked later on."""
    prompt_text = text_of(record, place, data.prompt_key, "prompt_key")
    completion_text = text_of(record, place, data.completion_key, "completion_key")
    prompt = tokenizer(prompt_text)["input_ids"]
    completion = tokenizer(completion_text, add_special_tokens=False)["input_ids"]
    completion = [*completion, *_end(tokenizer)]
    learnt = [IGNORED] * len(prompt) if data.completion_only else list(prompt)
    return Encoded([*prompt, *completion], [*learnt, *completion])


def _end(tokenizer: Any) -> list[int]:
    return [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
