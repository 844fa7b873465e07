"""What a session of Level 2 is shown before its first round; less where that is too long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources

from bilevel.history import History
from bilevel.mechanism import View
from bilevel.model import Message, Prompt, Run
from bilevel.prompting import HISTORY_LINES, SHORTER, history_lines, parameter_line, shortened
from bilevel.prompts import render
from bilevel.research.diagnostics import facts
from bilevel.research.merit import Known


def briefing(
    run: Run,
    history: History,
    view: View,
    known: Sequence[Known],
    most: int = HISTORY_LINES,
    sources: bool = True,
) -> list[Message]:
    """System and user message of the first round.

    known: mechanisms of this and of earlier runs. most: lines of the trace. sources: whether those
    of the stack are shown whole, or by name.
    """
    objective = run.objective
    stack = [k.source.source.strip() if sources else k.source.name for k in known if k.stacked]
    domains = render("research_domains").rstrip() if run.outer.domains == "hint" else ""
    text = render(
        "research_explore",
        contract=render("contract").strip(),
        loop=(resources.files("bilevel") / "loop.py").read_text(encoding="utf-8").strip(),
        stack="\n\n".join(stack) or "none; the loop keeps what is strictly better",
        record="\n".join(f"- {k.source.name}: {k.record}" for k in known) or "none yet",
        metric=objective.metric,
        goal="low" if objective.direction == "min" else "high",
        brief=run.brief.strip(),
        parameters="\n".join(parameter_line(p) for p in view.space),
        trace="\n".join(history_lines(objective, history, most=most)),
        facts="\n".join(f"- {line}" for line in facts(history, view, objective)),
        domains=domains,
    )
    return [Message("system", render("research_system").strip()), Message("user", text.strip())]


def shorter_briefings(
    run: Run, history: History, view: View, known: Sequence[Known], rounds: Sequence[Message]
) -> Iterator[Prompt]:
    """The same with less: of the trace, then of earlier mechanisms, then of the stack's sources.

    rounds: what was said since, which all of them end with.
    """

    def talk(most: int) -> list[Message]:
        return [*briefing(run, history, view, known, most), *rounds]

    cuts: list[str] = []
    for prompt in shortened(run.objective, history, talk):
        cuts = [prompt.cut]
        yield prompt
    stacked = [k for k in known if k.stacked]
    for words, sources, held in (
        ("earlier mechanisms left out", True, len(stacked) < len(known)),
        ("sources of the stack left out", False, bool(stacked)),
    ):
        if held:
            cuts.append(words)
            least = briefing(run, history, view, stacked, SHORTER[-1], sources)
            yield Prompt((*least, *rounds), ", ".join(cuts))
