"""The ways in which a server can be held to a JSON schema, from the strongest to the weakest.

gbnf: llama.cpp's server gets the schema as a grammar that also holds numbers within their bounds.
json_schema: it gets the schema and lets the model write nothing else. narrow_schema: the same with
the subset of JSON Schema that every provider takes; what is left out is checked afterwards. tool:
the model must call a function whose parameters fit the schema. json_object: it writes some JSON
object, and is told the schema. text: it is told the schema.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from bilevel.llm.asking import bare
from bilevel.llm.gbnf import Inexpressible, gbnf
from bilevel.model import UNUSABLE, Message, Reply
from bilevel.protocols import Schema

log = logging.getLogger(__name__)
Form = Literal["gbnf", "json_schema", "narrow_schema", "tool", "json_object", "text"]
FORMS: tuple[Form, ...] = get_args(Form)
USUAL = FORMS[1:]  # of a server that is not known to be llama.cpp's
TOOL = "reply"
# Refused by OpenAI's strict mode ("Structured outputs", section "Supported schemas").
LENGTHS = frozenset({"minLength", "maxLength"})
_IN_WORDS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
}
# Refused by Anthropic's, which knows no bounds ("Structured outputs", "JSON Schema limitations").
BOUNDS = frozenset(_IN_WORDS)
_TYPES: Mapping[type, str] = {
    bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"
}  # fmt: skip


@dataclass(frozen=True)
class Manner:
    """How a model of a server is asked. without: fields of requests that it does not take."""

    form: Form
    without: frozenset[str] = frozenset()


def suited(form: Form, schema: Schema | None) -> Form:
    """The form, or the next weaker one for a schema that it cannot express."""
    if form != "gbnf" or schema is None:
        return form
    try:
        gbnf(schema)
    except Inexpressible as error:
        log.info("this schema goes as json_schema, not as a grammar: %s", error)
        return "json_schema"
    return form


def narrow(schema: Schema, drop: Collection[str]) -> Schema:
    """The schema without the keywords to drop, which its descriptions say in words instead.

    Constants become enumerations, and all that is listed gets its type, which strict servers want.
    """
    made: Schema = {}
    said = []
    for key, value in schema.items():
        if key == "const":
            made["enum"] = [value]
        elif key == "properties":
            made[key] = {name: narrow(part, drop) for name, part in value.items()}
        elif key == "items":
            made[key] = narrow(value, drop)
        elif key == "anyOf":
            made[key] = [narrow(part, drop) for part in value]
        elif key in drop:
            said.append(_IN_WORDS[key].format(value))
        else:
            made[key] = value
    if "enum" in made and "type" not in made:
        kinds = list(dict.fromkeys(_TYPES[type(value)] for value in made["enum"]))
        made["type"] = kinds[0] if len(kinds) == 1 else kinds
    if said:
        made["description"] = ". ".join(filter(None, [made.get("description"), ", ".join(said)]))
    return made


def told_schema(messages: Sequence[Message], schema: Schema) -> list[Message]:
    """The messages with the schema in words, at the beginning, where it can be cached."""
    rule = f"Answer with one JSON object that fits this JSON schema:\n{json.dumps(schema)}"
    if messages and messages[0].role == "system":
        first = Message("system", f"{messages[0].content}\n\n{rule}")
        return [first, *messages[1:]]
    return [Message("system", rule), *messages]


def lifted(reply: Reply, schema: Schema | None) -> Reply:
    """The reply with the JSON alone as its text, and what stood around it among the thoughts.

    One whose JSON nobody can read is UNUSABLE.
    """
    if schema is None or not reply.answers:
        return reply
    try:
        text = bare(reply.text, schema)
    except (RecursionError, ValueError) as error:
        return replace(reply, text=f"the reply's JSON cannot be read ({error})", finish=UNUSABLE)
    before, _, after = reply.text.partition(text)
    around = [part.strip() for part in (reply.reasoning, before, after)]
    return replace(reply, text=text, reasoning="\n".join(filter(None, around)))


def heeds(reply: Reply, schema: Schema) -> bool:
    """Whether the reply can be one of a server that held the model to the schema.

    Cut ones and refusals say nothing about it, nor do values out of bounds.
    """
    if reply.finish != "stop":
        return True
    try:
        value: Any = json.loads(reply.text)
    except json.JSONDecodeError:
        return False
    return isinstance(value, dict) and set(schema.get("required", ())) <= value.keys()
