"""What to do about an error of a mechanism, in words that a small LLM can act on."""

from __future__ import annotations

import difflib
import inspect
import re
from dataclasses import fields, is_dataclass

from bilevel.mechanism import Mechanism, View
from bilevel.model import Draft, Edit, Move, Trial
from bilevel.sandbox.errors import MechanismError
from bilevel.sandbox.policy import HOOKS
from bilevel.space import Param, Space

KNOWN: dict[str, type] = {
    k.__name__: k for k in (View, Trial, Draft, Edit, Move, Space, Param, Mechanism)
}
UNSURE = {"plan": "return moves", "screen": "return drafts", "accept": "return keep"}
# Names that authors expect, and what there is in their place.
_MEANT = """
    history:trials past:trials params:values parameters:values config:values best_trial:best
    current:incumbent reward:score value:score loss:score result:score random:rng min:low max:high
    type:kind options:choices budget:left remaining:left variables:params iteration:step
"""
MEANT = dict(pair.split(":") for pair in _MEANT.split())
GIVE_UP = "; if there is nothing to work on, give back what came in"
# The first that is found in "Kind: text" of the error wins.
RULES = (
    (
        r"'NoneType' object has no attribute '(move|step|hypothesis|edits)'",
        "the baseline's draft is None; use view.by_tag(tag), view.changed(trial) and "
        "view.gain(trial), or pass over trials with `t.draft is None`",
    ),
    (
        r"'NoneType' object is not (subscriptable|a mapping|iterable)|type 'NoneType' is not",
        "move.values is None unless a layer set it; start from view.incumbent.values or from "
        "view.base(move).values",
    ),
    (
        r"NoneType",
        "the score of a failed trial is None, and view.gain(trial) and view.noise can be None; "
        "use view.scored(), or test `is not None`",
    ),
    (r"plan must return", "end the hook with `return moves`, or with a list of Move(...)"),
    (r"screen must return", "end the hook with `return drafts`, or with some of them in a list"),
    (r"accept must return", "end the hook with `return keep`, or with True or False"),
    (r"parents", "parents are ids of trials, in a tuple: parents=(view.incumbent.id,)"),
    (r"must be a tuple", "write a tuple, with its comma: focus=(name,)"),
    (
        r"the answer.* is a |expected a (Move|Draft)|no JSON value",
        "plan returns a list of Move(...), screen a list of the drafts that came in, accept True "
        "or False",
    ),
    (
        r"may drop, reorder or edit",
        "return only drafts that came in, each once; new configurations are for plan: "
        "Move(values={**view.incumbent.values, name: value})",
    ),
    (
        r"is frozen",
        "change only names in view.open(), and start from view.incumbent.values: "
        "{**view.incumbent.values, name: value}",
    ),
    (
        r"its range is|moves in (ratios|steps)|must be a (number|whole)|must be finite",
        "take the value from view.from_unit(name, place), with place in [0, 1], or take one of "
        "view.neighbours(values, name); both keep to bounds, steps and log scales",
    ),
    (
        r"must be one of|must be a text",
        "view.from_unit(name, place) is always an allowed value; so is each of "
        "view.space[name].choices",
    ),
    (
        r"there is no parameter|has no value|KeyError: ['\"]?\w",
        "names differ from task to task: take them from view.open(), give every parameter a value "
        "with {**view.incumbent.values, name: value}, and read dicts of your own with "
        ".get(key, default)",
    ),
    (
        r"read-only|cannot assign to field",
        "make another: move.edit(note=...), draft.edit(values, why), {**values, name: value}",
    ),
    (r"IndexError", f"lists can be empty, and a trial's id is not its place in a list{GIVE_UP}"),
    (r"Sample larger|empty sequence|empty range", f"draw at most len(names) of names{GIVE_UP}"),
    (
        r"iterable argument is empty|data point|StatisticsError",
        f"at first the baseline is alone; test the length first{GIVE_UP}",
    ),
    (
        r"ZeroDivisionError",
        "scores can all be equal, view.noise can be 0 and a range can be one point; test the "
        "divisor first",
    ),
    (
        r"math domain|OverflowError|math range",
        "numbers can be 0, negative or huge; use view.unit(name, value), which is in [0, 1] on the "
        "right scale",
    ),
    (r"instances of '(Draft|Move|Trial)'", "sort by a number: key=lambda d: ..."),
    (
        r"concatenate|unsupported operand|not supported between|convert string|must be real number"
        r"|not in (list|tuple)|is not in",
        "values can be numbers, texts, choices or bools: work on view.ranged() only, with "
        "view.unit(name, value) and view.from_unit(name, place), which suit them all",
    ),
    (r"RecursionError", "a hook must not call itself"),
    (r"finite numbers", "leave the value out"),
    (
        r"^TypeError: self|keys must be texts",
        "attributes of self hold JSON values only: a sorted list for a set, trial.id for a trial",
    ),
    (r"MemoryError|WorkerDied", "it used up its memory or ended its process; keep less"),
    (r"SystemExit|KeyboardInterrupt", "a hook ends by returning its answer"),
)
MOST = 300
OWN_REMEDY = re.compile(r"gave no answer in")


def with_remedy(hook: str, kind: str, text: str) -> tuple[str, str]:
    """The error's text, at most MOST characters of it, and what to do about it, "" if it says so.

    kind: name of the exception's class.
    """
    # A mechanism cannot widen a range.
    text = text.removesuffix("; give a value in it or widen the range in the task file")
    advice = "" if OWN_REMEDY.search(text) else _remedy(hook, kind, text)
    return (text if len(text) <= MOST else f"{text[: MOST - 3]}..."), advice


def said(error: BaseException) -> tuple[str, str]:
    """Kind and text of an error, those of the mechanism's own where the sandbox tells of one."""
    inner = re.match(r"(\w+): (.*?)( \(line \d+, in \S+\))?$", str(error), re.DOTALL)
    if isinstance(error, MechanismError) and inner:
        return inner[1], inner[2]
    return type(error).__name__, str(error)


def source_line(error: BaseException, file: str | None) -> int | None:
    """The line of the mechanism's own source that raised, None where it is not known."""
    if isinstance(error, MechanismError):
        found = re.search(r" \(line (\d+), in \S+\)$", str(error))
        return int(found[1]) if found else None
    line, trace = None, error.__traceback__
    while trace is not None:
        if file is not None and trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def members(kind: type) -> list[str]:
    """Public fields and methods of one of the contract's classes."""
    own = [f.name for f in fields(kind)] if is_dataclass(kind) else []
    return [*own, *(n for n in vars(kind) if not n.startswith("_") and n not in own)]


def _remedy(hook: str, kind: str, text: str) -> str:
    attribute = re.match(r"'(\w+)' object has no attribute '(\w+)'", text)
    if attribute and attribute[1] != "NoneType":
        return _attribute(attribute[1], attribute[2])
    call = re.match(r"(\w+)\.(\w+)\(\) .*argument", text)
    if call:
        return _call(call[1], call[2])
    name = re.match(r"name '(\w+)' is not defined", text)
    if name:
        return _name(name[1])
    for pattern, words in RULES:
        if re.search(pattern, f"{kind}: {text}"):
            return words
    return f"when in doubt, `{UNSURE[hook]}`" if hook in UNSURE else ""


def _attribute(owner: str, name: str) -> str:
    if owner not in KNOWN:
        if owner in ("str", "int", "float", "bool", "list", "tuple", "dict"):
            return f"a {owner} is what was given here; see what the contract says of it"
        return f"set it in __init__, which takes no arguments: self.{name} = ..."
    there = members(KNOWN[owner])
    meant = MEANT.get(name, "")
    near = [meant] if meant in there else difflib.get_close_matches(name, there, n=1)
    hint = f"did you mean .{near[0]}? " if near else ""
    return f"{hint}a {owner} has {', '.join(there)}"


def _call(owner: str, method: str) -> str:
    if owner in KNOWN and method == "__init__":
        return f"a {owner} has {', '.join(f.name for f in fields(KNOWN[owner]))}"
    if owner in KNOWN and method in vars(KNOWN[owner]):
        names = list(inspect.signature(vars(KNOWN[owner])[method]).parameters)[1:]
        return f"call it as .{method}({', '.join(names)})"
    if method in HOOKS:
        return f"write `def {method}(self, {', '.join(HOOKS[method])})`"
    if method == "__init__":
        return "__init__ takes no arguments but self"
    return "call it with the arguments that it is defined with"


def _name(name: str) -> str:
    if name not in KNOWN:
        return "define or import it first"
    module = "bilevel.mechanism" if name in ("View", "Mechanism") else "bilevel.model"
    return f"write `from {module} import {name}` at the top"
