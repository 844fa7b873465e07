"""Level 1's requests of a recorded run, as they were sent and as one would put them offhand."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from bilevel.archive import read_log
from bilevel.llm.asking import bare
from bilevel.model import Call, Message, Reply
from bilevel.protocols import Schema
from bilevel.schemas import misfit

HISTORY = "Experiments so far:\n"  # the end of prompts/propose_task.md
STATE = "\n\nBest so far is #"  # the beginning of prompts/propose_ask.md
FORM = "You answer with JSON:"  # the form of a reply, in prompts/propose_system.md
FREE_CHARS = 1200  # about 300 tokens

IN_FULL = (
    'You answer with pretty-printed JSON: first "hypothesis", in which you think in full sentences '
    'about why your experiment should help, then "changes" of one parameter, or of two that belong '
    'together, each with "name" and "value".'
)
IN_WORDS = (
    ' Write it like this, with nothing before or after it: {"changes": [{"name": "NAME", '
    '"value": VALUE}], "hypothesis": "..."}. VALUE is a plain number such as 4096, or a text in '
    "quotation marks."
)


@dataclass(frozen=True)
class Request:
    """What is asked of an LLM. allowed: the schema that a reply is judged by, whatever holds it.

    recorded: what the run's model replied.
    """

    messages: tuple[Message, ...]
    schema: Schema | None
    seed: int
    max_tokens: int
    allowed: Schema
    purpose: str
    recorded: Reply


def requests(run: Path, count: int) -> list[Request]:
    """The first `count` requests of Level 1 in a run's file, repairs among them, in order."""
    calls = [r for r in read_log(run)[1] if isinstance(r, Call) and r.level == "1"][:count]
    if len(calls) < count or sum(call.purpose == "propose" for call in calls) < 2:
        raise SystemExit(
            f"{run} holds {len(calls)} requests of Level 1 up to number {count}; "
            "ask for no more, and for two proposals at the least"
        )
    return [_request(call) for call in calls]


def _request(call: Call) -> Request:
    schema: Schema = json.loads(call.schema)
    return Request(
        call.messages,
        schema,
        call.seed,
        call.max_tokens,
        _judging(schema),
        call.purpose,
        call.reply,
    )


def _judging(schema: Schema) -> Schema:
    """The schema without a rule for the hypothesis: how it is worded makes no reply invalid."""
    free = {**schema["properties"], "hypothesis": {"type": "string"}}
    return {**schema, "properties": free}


def fits(text: str, request: Request) -> bool:
    """Whether a reply holds changes that the request allows, with or without a fence around it."""
    return not misfit(bare(text, request.allowed), request.allowed)


def offhand(request: Request) -> Request:
    """The request with what changes put first: state and question, the newest trial, the oldest.

    The reply is free in its line breaks, and begins with up to 300 tokens of reasons.
    """
    system, user, *talk = request.messages
    task, lines, state = _parts(user.content)
    newest_first = "\n".join(reversed(lines.split("\n")))
    content = f"{state}\n\nExperiments so far, newest first:\n{newest_first}\n\n{task}"
    said, form, _ = system.content.partition(FORM)
    if not form:
        raise SystemExit(f"a system prompt lacks {FORM!r}; the run is of other prompts than these")
    reasons = {"type": "string", "minLength": 8, "maxLength": FREE_CHARS}
    schema = {
        **request.allowed,
        "properties": {"hypothesis": reasons, "changes": request.allowed["properties"]["changes"]},
        "required": ["hypothesis", "changes"],
        "x-guidance": {"whitespace_flexible": True},
    }
    return replace(
        request,
        messages=(Message("system", said + IN_FULL), Message("user", content), *talk),
        schema=schema,
        max_tokens=request.max_tokens + 150,  # on top of the reasons, for indented changes
    )


def unheld(request: Request) -> Request:
    """The request without a schema: the form of the reply is told in the system prompt."""
    system, *rest = request.messages
    told = replace(system, content=system.content + IN_WORDS)
    return replace(request, messages=(told, *rest), schema=None)


def _parts(content: str) -> tuple[str, str, str]:
    """Task with its parameters, history, and what is asked, of a user message."""
    task, found, rest = content.partition(HISTORY)
    lines, state, asked = rest.partition(STATE)
    if not found or not state:
        raise SystemExit(f"a prompt lacks {HISTORY!r} or {STATE!r}; the run is of other prompts")
    return task.strip(), lines, (STATE + asked).strip()
