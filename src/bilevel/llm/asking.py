"""Requests as one text, for whoever is no API: an agent, a program, a person; and their answers.

What they answer is checked against the request's JSON schema here, as no server did it for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from bilevel.model import Message
from bilevel.protocols import Schema
from bilevel.schemas import misfit

_FENCED = re.compile(r"```[a-z]*\n(.*?)\n?```", re.DOTALL)

__all__ = ["bare", "checked", "example", "misfit", "request_text"]


def request_text(
    messages: Sequence[Message],
    schema: Schema | None = None,
    max_tokens: int | None = None,
    told: bool = True,
) -> str:
    """The whole request as Markdown: what was said so far, and which form the answer must have.

    told: False where the schema goes along by a way of its own.
    """
    parts = []
    for message in messages:
        said = {"system": "", "user": "", "assistant": "Your earlier answer was:\n\n"}
        parts.append(said[message.role] + message.content.strip())
    length = "" if max_tokens is None else f" Keep it under {max_tokens} tokens."
    if schema is None:
        parts.append(f"Answer with the text that is asked for and nothing else.{length}")
    elif not told:
        parts.append(f"Answer in the form of the JSON schema you were given.{length}")
    else:
        parts.append(
            f"Answer with one JSON value that fits this JSON schema, and nothing else.{length}\n\n"
            f"{json.dumps(schema)}"
        )
    return "\n\n".join(parts) + "\n"


def checked(text: str, schema: Schema | None) -> tuple[str, str]:
    """The answer itself, and what is wrong with it, "" if nothing is. Raises nothing."""
    try:
        found = bare(text, schema)
        return found, misfit(found, schema)
    except (RecursionError, ValueError) as error:  # nested too deep, or a number of 10,000 digits
        return text, f"the answer cannot be read ({error})"


def bare(text: str, schema: Schema | None) -> str:
    """The answer itself. Where JSON was asked for, what stands around it is left out.

    A text in which no JSON is found comes back as it is, for `misfit` to say so.
    """
    text = text.strip()
    if schema is None or _is_json(text):
        return text
    fenced = [found for found in _FENCED.findall(text) if _is_json(found)]
    if fenced:
        return str(fenced[-1]).strip()
    start = text.find("{")
    if start >= 0:
        try:
            _, end = json.JSONDecoder().raw_decode(text, start)
        except json.JSONDecodeError:
            return text
        return text[start:end]
    return text


def example(schema: Schema) -> Any:
    """A value of the form that the schema asks for, to show what that is; not one to send."""
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    if "anyOf" in schema:
        return example(schema["anyOf"][0])
    kind = schema.get("type")
    if kind == "object":
        return {name: example(part) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [example(schema["items"])] * max(1, schema.get("minItems", 1))
    if kind in ("integer", "number"):
        return schema.get("minimum", schema.get("maximum", 0))
    return {"boolean": True, "null": None}.get(str(kind), "...")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True
