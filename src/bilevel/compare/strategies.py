"""The strategies that a comparison knows: the LLM alone, mechanisms, and stacks of them."""

from __future__ import annotations

from collections.abc import Sequence

from bilevel import mechanisms, stacks
from bilevel.errors import BrokenPackage, ConfigError

# The LLM at work, greedily, with no mechanism over it.
PLAIN = "plain"
# Strategies that write all values themselves; they turn to the LLM only where nothing is left to
# draw. A test tries every mechanism with an LLM that fails and holds this list to it.
FREE = ("cmaes", "gp", "racing", "random_search", "smac", "tpe")


def stack(strategy: str) -> tuple[str, ...]:
    """The mechanisms of a strategy, lowest first."""
    return () if strategy == PLAIN else tuple(strategy.split("+"))


def named(text: str) -> tuple[str, ...]:
    """The strategies of a comma list, each once; `all`, `free` and `llm` stand for groups.

    Raises ConfigError for an unknown mechanism, for a file that is none, and for a stack with the
    same one twice.
    """
    every = (PLAIN, *mechanisms.names())
    groups = {
        "all": every,
        "free": tuple(n for n in every if n in FREE),
        "llm": tuple(n for n in every if n not in FREE),
    }
    found: dict[str, None] = {}
    for word in filter(None, (w.strip() for w in text.split(","))):
        found.update(dict.fromkeys(groups.get(word, (word,))))
    for strategy in found:
        broken(stack(strategy))
    if not found:
        raise ConfigError(
            "--strategies names none; give all, free, llm, or a list such as plain,tabu+ucb1"
        )
    return tuple(found)


def broken(names: Sequence[str]) -> str:
    """Why a package fails to give one of these mechanisms, "" where none does.

    That is for a row of a table to say. Raises ConfigError for all else that is wrong with them.
    """
    try:
        stacks.entries(names)
    except BrokenPackage as error:
        return str(error)
    return ""


def code_lines(strategy: str) -> int:
    """Lines of code of its mechanisms, neither blank, nor comment, nor docstring.

    0 where a package fails to give one of them.
    """
    if broken(stack(strategy)):
        return 0
    texts = [stacks.source(name).source for name in stack(strategy)]
    return sum(map(mechanisms.code_lines, texts))
