"""Records of a run as lines for people who watch it: a line a matter, whatever an LLM wrote."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from bilevel.describe import changes, one_line, start_values
from bilevel.history import History
from bilevel.ledger import said
from bilevel.levels import Usage
from bilevel.model import (
    TOO_LONG,
    UNUSABLE,
    Attempt,
    Begun,
    Call,
    Denial,
    Fault,
    Layering,
    Refusal,
    Run,
    Session,
    Steering,
    Trial,
    Values,
)
from bilevel.research.authoring import parse_specification

STEERING, RESEARCH, WARNING = "blue", "magenta", "yellow"


def trial_line(run: Run, history: History, trial: Trial, mark: str = "") -> Text:
    """One line for a trial that has just ended; `history` is that before it.

    mark: the mechanisms that touched it.
    """
    if trial.draft is None:
        what = {"baseline": "baseline", "confirm": "winner again"}[trial.role]
        what = f"{what}, seed {trial.seed}"
    else:
        draft = trial.draft
        what = change_text(history, draft.move.parents, draft.step, trial.values)
    touch = Text(f" [{mark}]" if mark else "", style=RESEARCH)
    line = Text(f"#{trial.id:<3} ", style="dim")
    if trial.score is None:
        line.append(f"{trial.status:>9} ", style="red").append(what, style="default")
        return line.append_text(touch).append(f"  {one_line(trial.error, 120)}", style="dim")
    line.append(
        f"{run.objective.value(trial.score):9.4f} ", style="bold green" if trial.kept else ""
    )
    line.append(
        "keep    " if trial.kept else "discard " if trial.draft else "        ", style="dim"
    )
    line.append(what).append_text(touch)
    if trial.draft is not None and trial.draft.hypothesis:
        line.append(f"  {one_line(trial.draft.hypothesis)}", style="italic dim")
    return line


def refusal_line(history: History, refusal: Refusal) -> Text:
    """One line for a proposal that cost no evaluation."""
    values, parents = refusal.values, refusal.move.parents
    what = "" if values is None else f" {change_text(history, parents, refusal.step, values)}"
    return Text(f"       refused{what}: {one_line(refusal.reason)}", style="dim")


def steering_lines(before: Steering, now: Steering, spent: Usage) -> list[Text]:
    """What Level 1.5 saw and what it changed, against the steering that was in force."""
    lines = [_line("Level 1.5", STEERING, one_line(now.diagnosis), _cost(spent))]
    frozen = [n for n in now.frozen if n not in before.frozen]
    opened = [n for n in before.frozen if n not in now.frozen]
    lines += [_more(STEERING, f"freezes {_why(n, now)}") for n in frozen]
    lines += [_more(STEERING, f"opens {_why(n, now)}") for n in opened]
    others = [n for n in now.reasons if n not in frozen and n not in opened]
    lines += [_more(STEERING, f"leaves {_why(n, now)}") for n in others]
    if now.strategy:
        same = " as before" if now.strategy == before.strategy else ""
        lines.append(_more(STEERING, f"strategy: {now.strategy}{same}"))
    if now.guidance:
        lines.append(_more(STEERING, f"guidance: {one_line(now.guidance)}"))
    return lines


def begun_line(begun: Begun) -> Text:
    """One line for a session that begins beside the loop."""
    what = f"a session of cycle {begun.cycle} begins; the inner loop goes on meanwhile"
    return _line("Level 2", RESEARCH, what)


def session_lines(session: Session, spent: Usage) -> list[Text]:
    """What a session of Level 2 saw and specified, what the gate said, and how it ended."""
    sham = ", a sham: its code is left out" if session.sham else ""
    beside = "" if session.landed is None else f", begun before step {session.step}"
    classes = ", classes are asked for" if session.writes == "classes" else ""
    title = f"session of cycle {session.cycle}{beside}{classes}{sham}"
    lines = [_line("Level 2", RESEARCH, title, _cost(spent))]
    rounds = {k: words for k, words in said(session).items() if words and k[:7] != "specify"}
    lines += [_more(RESEARCH, f"{k}: {words}") for k, words in rounds.items()]
    spec = parse_specification(session.notes.get("specify", ""))
    if spec is not None:
        lines.append(_more(RESEARCH, f"specified {spec.name}: {one_line(spec.text())}"))
    lines += [_more(RESEARCH, attempt_text(n, a)) for n, a in enumerate(session.attempts, 1)]
    if not session.admitted:
        lines.append(_more(RESEARCH, f"no mechanism was admitted{_if_none(session.attempts)}"))
        if classes:
            lines.append(_more(RESEARCH, "from now on sessions ask for expressions of frames"))
    return lines


def attempt_text(number: int, attempt: Attempt) -> str:
    """`source 2 (repair), LeastTried: refused for influence: it changes nothing`."""
    name = one_line(attempt.name) or "no class"
    verdict = "admitted"
    if attempt.rule:
        verdict = f"refused for {attempt.rule}: {one_line(attempt.words)}"
    elif "influence" in attempt.figures:
        share = attempt.figures["influence"]
        verdict += f", would have changed {share:.0%} of its decisions on this run's record"
    return f"source {number} ({attempt.way}), {name}: {verdict}"


def layering_line(layering: Layering, name: str) -> Text:
    """One line for a layer that joins the stack or leaves it."""
    joins = layering.action == "add"
    what = f"{one_line(name)} {'joins' if joins else 'leaves'} the stack"
    return _line("Stack", RESEARCH if joins else WARNING, f"{what}: {one_line(layering.why)}")


def call_lines(call: Call, before: Call | None) -> list[Text]:
    """What is worth a word of a level's call, given its call before: hardly ever anything."""
    if call.reply.finish == UNUSABLE:
        what = f"a reply is paid for and of no use: {one_line(call.reply.text, 160)}"
        return [_line(f"Level {call.level}", WARNING, what)]
    refused = before is not None and before.reply.finish == TOO_LONG
    if refused and call.cut and call.reply.answers:
        what = f"{call.cut}: the prompt was too long for {one_line(call.model)}"
        return [_line(f"Level {call.level}", WARNING, what)]
    return []


def denial_line(denial: Denial) -> Text:
    """One line for an outer level that can no longer afford a call."""
    style = STEERING if denial.level == "1.5" else RESEARCH
    what = f"falls silent, the inner loop goes on; {one_line(denial.why)}"
    return _line(f"Level {denial.level}", style, what)


def fault_line(fault: Fault, name: str) -> Text:
    """One line for a decision that fell back because a layer failed."""
    what = f"{one_line(name)}.{fault.hook} in step {fault.step}: {fault.kind}"
    return _line("Fault", WARNING, f"{what}: {one_line(fault.message, 160)}; passed over")


def change_text(history: History, parents: Sequence[int], step: int, values: Values) -> str:
    """What these values change of the trial that they start from."""
    return ", ".join(changes(history.space, start_values(history, parents, step), values))


def clock(seconds: float) -> str:
    """`4:05`, or with hours `1:04:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _line(title: str, style: str, text: str, rest: str = "") -> Text:
    line = Text(f"{title:>9}  ", style=f"bold {style}").append(text, style="not bold default")
    return line.append(rest, style="not bold dim")


def _more(style: str, text: str) -> Text:
    return Text(f"{'|':>9}  ", style=style).append(text, style="default")


def _why(name: str, steering: Steering) -> str:
    return f"{name}: {one_line(steering.reasons.get(name, 'no reason given'))}"


def _cost(spent: Usage) -> str:
    if not spent.calls:
        return ""
    calls = "1 reply" if spent.calls == 1 else f"{spent.calls} replies"
    return f"  ({calls}, {spent.tokens_out:,} tokens written in {clock(spent.seconds)})"


def _if_none(attempts: Sequence[Attempt]) -> str:
    return "" if attempts else ", as nothing usable was specified"
