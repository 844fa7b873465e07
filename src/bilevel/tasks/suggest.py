"""What a constant's name and value suggest: bounds to search in, or a reason to lock it.

These are conventions of training scripts, for a first task.toml that a person then reads and edits.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from bilevel.space import Value
from bilevel.tasks.constants import Constant

__all__ = ["Suggestion", "is_seed", "is_table", "suggest"]

# Parts of names, and why a constant with such a name stays as it is.
_LOCKS = (
    (
        r"(N_|NUM_)?(LAYERS?|BLOCKS|HEADS?)|DEPTH|ASPECT_RATIO|HEAD_DIM|N_EMBD|N_KV_HEADS?|"
        r"(EMBD|EMBED|EMBEDDING|MODEL|HIDDEN|FF|MLP)_(DIM|SIZE)|\w*_DIM|DIM|D_(MODEL|FF|HEAD)|"
        r"WIDTH|HIDDEN|VOCAB_SIZE|\w*_VOCAB_SIZE|CHANNELS|EXPANSION",
        "model size: another size is another problem; unlock it to search sizes as well",
    ),
    (
        r"\w*TIME_BUDGET|\w*BUDGET|(MAX|NUM|N|TOTAL)_(STEPS|ITERS|ITERATIONS|EPOCHS)|EPOCHS|STEPS|"
        r"ITERATIONS|TIMEOUT|TIME_LIMIT|MAX_(TIME|SECONDS|MINUTES)|TRAIN_(SECONDS|TOKENS)",
        "budget: results with different budgets do not compare",
    ),
    (
        r"(EVAL|VAL|TEST|VALIDATION)_\w+|\w+_(EVAL|VAL|TEST)|(MAX_)?SEQ_LEN|\w*SEQ_LEN|BLOCK_SIZE|"
        r"CONTEXT(_LENGTH|_LEN|_SIZE)?|SHARDS?|\w*_SHARDS?",
        "evaluation: changing it changes what the metric means",
    ),
    (r"\w*SEED", "seed: a lucky seed is no improvement"),
    (
        r"LOG_\w+|\w+_(EVERY|INTERVAL|FLOPS|PATH|DIR|FILE|URL|VERSION|FREQ)|VERSION|DEBUG|VERBOSE|"
        r"DEVICE|DTYPE|NUM_WORKERS|\w*WORKERS|PORT|\w*_PORT|RANK|WORLD_SIZE",
        "not a hyper-parameter: it changes the machinery, not the training",
    ),
)
_LR = re.compile(r"(?:^|_)(LR|LEARNING_RATE|ETA)(?:$|_|\d)")
_SHARE = re.compile(r"(?:^|_)(RATIO|FRAC|FRACTION|DROPOUT|PROB|P|MOMENTUM|SMOOTHING)(?:$|_|\d)")
_BETA = re.compile(r"(?:^|_)BETAS?(?:$|_|\d)")
_DECAY = re.compile(r"(?:^|_)(WEIGHT_DECAY|WD|DECAY|L2)(?:$|_|\d)")
_WINDOWS = ("L", "SL", "SSL", "SSSL", "SSSSL", "SSSSSSSL")


@dataclass(frozen=True)
class Suggestion:
    """Bounds or choices for a constant; why_locked says why it is none ("" if it is one)."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: int | None = None
    choices: tuple[Value, ...] = ()
    why_locked: str = ""
    hint: str = ""


def is_seed(constant: Constant) -> bool:
    """Whether a constant is the script's random seed."""
    return constant.kind == "int" and re.fullmatch(r"\w*_?SEED", constant.name) is not None


def is_table(constant: Constant) -> bool:
    """Whether a constant is an element of a nested or longer tuple, such as coefficients."""
    index = re.search(r"\[(\d+)\]$", constant.name)
    return constant.name.count("[") > 1 or (index is not None and int(index[1]) > 3)


def suggest(constant: Constant) -> Suggestion:
    """What to write for a constant; a range that has its value in it, or a reason to lock it."""
    name = constant.name.partition("[")[0]
    for pattern, why in _LOCKS:
        if re.fullmatch(pattern, name):
            return Suggestion(why_locked=why)
    match constant.value:
        case bool():
            return Suggestion(choices=(False, True))
        case str() as text:
            return _string(text)
        case int() as number:
            return _whole(number, constant.text)
        case float() as number:
            return _real(name, number)


def _string(text: str) -> Suggestion:
    if text and set(text) <= {"S", "L"}:
        return Suggestion(choices=tuple(dict.fromkeys((*_WINDOWS, text))))
    return Suggestion(
        why_locked="a text: only you know its other values",
        hint="to search it, give them as choices and remove `locked`",
    )


def _whole(number: int, written: str) -> Suggestion:
    if number < 0:
        return Suggestion(why_locked="negative whole numbers are often switches, not sizes")
    if number == 0:
        return Suggestion(low=0, high=10, hint="a guess: 0 says nothing about the scale")
    power = number & (number - 1) == 0
    if number >= 8 and (power or "**" in written or "<<" in written):
        low = number // math.gcd(number, 8)
        return Suggestion(low=low, high=number * 8, log=True, step=2)
    low = max(1, number // 8)
    return Suggestion(low=low, high=number * 8, log=True)


def _real(name: str, number: float) -> Suggestion:
    if number and not 1e-100 <= abs(number) <= 1e100:
        return Suggestion(why_locked="an extreme value, such as a guard against division by 0")
    if _BETA.search(name) and 0.5 <= number <= 0.999:
        return Suggestion(low=0.5, high=0.999)
    if _DECAY.search(name) and number >= 0:
        return Suggestion(low=0, high=5 * number if number else 0.5)
    if _LR.search(name) and number > 0 and not _SHARE.search(name):
        return Suggestion(low=_rounded(number / 10), high=_rounded(number * 10), log=True)
    if 0 < number < 0.01 or number > 1:
        return Suggestion(low=_rounded(number / 10), high=_rounded(number * 10), log=True)
    if 0 <= number <= 1:
        return Suggestion(low=0, high=1)
    return Suggestion(low=_rounded(10 * number), high=_rounded(-10 * number))


def _rounded(number: float) -> float:
    return float(f"{number:.6g}")
