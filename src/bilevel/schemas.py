"""Whether an answer fits the JSON schema under which it was asked for."""

from __future__ import annotations

import json
from typing import Any

from bilevel.protocols import Schema

PROBLEM_CHARS = 400
# Forms of `Reply.form` in which no server held the model to the schema.
_TELLING = ("const", "minItems", "maxItems")
_BOUNDS = ("minimum", "maximum")
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
    while problem.parent is not None:
        problem = problem.parent
    problem = _meant(problem)
    said = problem.message
    consts = [x for x in problem.context if x.validator == "const"]
    if consts:
        problem = consts[0]
        said = f"{problem.instance!r} is none of {[x.validator_value for x in consts]}"
    elif problem.context and all(x.validator in _BOUNDS for x in problem.context):
        ranges = " or ".join(_range(rule) for rule in problem.validator_value)
        said = (
            f"{problem.instance!r} is not {ranges}; the rest is so already, was tried, or is close"
        )
    where = "".join(f"[{step!r}]" for step in problem.absolute_path) or "the answer"
    return f"{where}: {said}"


def _meant(problem: Any) -> Any:
    """The error of the alternative whose constants and counts fit, if it is the only one."""
    failed: dict[int, list[Any]] = {}
    for error in problem.context:
        failed.setdefault(error.relative_schema_path[0], []).append(error)
    fitting = [e for e in failed.values() if not any(x.validator in _TELLING for x in e)]
    return _meant(fitting[0][0]) if len(fitting) == 1 else problem


def _range(rule: Schema) -> str:
    low, high = rule.get("minimum"), rule.get("maximum")
    if low is None or high is None:
        return f"at least {low}" if high is None else f"at most {high}"
    return f"{low} to {high}"
