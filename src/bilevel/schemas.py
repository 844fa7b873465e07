"""Whether an answer fits the JSON schema under which it was asked for."""

from __future__ import annotations

import json
from typing import Any

from bilevel.protocols import Schema

PROBLEM_CHARS = 400
# Forms of `Reply.form` in which no server held the model to the schema.
UNENFORCED = ("tool", "json_object", "text")


def misfit(text: str, schema: Schema | None) -> str:
    """What is wrong with an answer, in words that its author can act on; "" if nothing is."""
    if not text:
        return "the answer is empty"
    if schema is None:
        return ""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return f"the answer is not JSON ({error.msg}, line {error.lineno}, column {error.colno})"
    import jsonschema  # Here, for it takes 0.1 s, and most runs ask a server that checks.

    problem = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(schema).iter_errors(value)
    )
    return "" if problem is None else _words(problem)[:PROBLEM_CHARS]


def _words(problem: Any) -> str:
    """A validation error in words; of alternatives, what the one that was meant asks for."""
    meant, said = problem, problem.message
    while meant.parent is not None and meant.validator == "const":
        meant = meant.parent
    if meant.context:
        failed: dict[int, list[Any]] = {}
        for error in meant.context:
            failed.setdefault(error.schema_path[0], []).append(error)
        # The constants of an alternative tell which one was meant.
        right = [e for e in failed.values() if not any(x.validator == "const" for x in e)]
        consts = [x for errors in failed.values() for x in errors if x.validator == "const"]
        problem = right[0][0] if right else consts[0]
        said = problem.message
        if not right:
            said = f"{problem.instance!r} is none of {[x.validator_value for x in consts]}"
    where = "".join(f"[{step!r}]" for step in problem.absolute_path) or "the answer"
    return f"{where}: {said}"
