"""Level 1.5: what may change, how the next moves are chosen, and advice; nothing else.

The LLM wishes, `steering_rules` grants. A strategy is not a word in a prompt: `focus` says which
parameters the loop's own move may change under it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from bilevel.errors import InvalidCandidate, OverBudget
from bilevel.history import History
from bilevel.mechanism import View
from bilevel.model import Message, Objective, Prompt, Steering, Strategy
from bilevel.prompting import HISTORY_LINES, figure, history_lines, shortened, system, task_text
from bilevel.prompts import render
from bilevel.seeds import derive
from bilevel.steering_rules import Evidence, freezable, grant, least_open, offered, weigh
from bilevel.steering_words import plain, values_in, without_values
from bilevel.tape.tape import Tape

REPAIRS = 1
MAX_TOKENS = 300
MAX_NAMES = 3
DIAGNOSIS_CHARS = 120
GUIDANCE_CHARS = 160
REST = 2  # evaluations running that were not kept, after which what gained gains no more
IDLE_STEPS = 3  # steps without an evaluation, after which a strategy's focus yields
STRATEGIES = tuple(s for s in get_args(Strategy) if s)


@dataclass(frozen=True)
class Wish:
    """A reply as it was read, before any rule."""

    diagnosis: str
    freeze: tuple[str, ...]
    unfreeze: tuple[str, ...]
    strategy: Strategy
    guidance: str


@dataclass(frozen=True)
class Steerer:
    """Level 1.5's voice.

    seed: the run's; each request derives its own. hypotheses: whether Level 1's proposals have one.
    """

    brief: str
    objective: Objective
    tape: Tape
    seed: int
    hypotheses: bool = field(default=True, kw_only=True)

    def steer(self, history: History, view: View, cycle: int) -> Steering:
        """The steering that holds from `view.step` on. Raises LLMError when no reply is to be had.

        A bad reply goes back once with the reason, as does guidance that names values. After that
        values are cut out of the guidance, and without a usable reply the steering in force stays;
        the diagnosis says either.
        """
        evidence = weigh(view)
        first = self._messages(history, view, evidence)
        rounds: list[Message] = []
        wish, reason = None, ""
        for attempt in range(REPAIRS + 1):
            try:
                reply = self.tape.complete(
                    [*first, *rounds],
                    schema(view, evidence),
                    seed=derive(self.seed, "steer", cycle, attempt),
                    max_tokens=MAX_TOKENS,
                    step=view.step,
                    level="1.5",
                    purpose="steer repair" if attempt else "steer",
                    shorter=self._shorter(history, view, evidence, rounds),
                )
            except OverBudget:
                if not attempt:
                    raise
                break  # the first reply is paid for, and is used as far as it goes
            try:
                wish = parse(reply.text)
                reason = _wording(view, wish.guidance)
            except InvalidCandidate as error:
                reason = str(error)
            if not reason:
                break
            repair = render("steer_repair", reason=reason).strip()
            rounds += [Message("assistant", reply.text), Message("user", repair)]
        if wish is None:
            said = f"No usable reply, so nothing changes: {reason}"
            return replace(history.steering, at=view.step, cycle=cycle, diagnosis=said, reasons={})
        return _granted(view, evidence, wish, cycle)

    def _shorter(
        self,
        history: History,
        view: View,
        evidence: dict[str, Evidence],
        rounds: Sequence[Message],
    ) -> Iterator[Prompt]:
        def talk(most: int) -> list[Message]:
            return [*self._messages(history, view, evidence, most), *rounds]

        return shortened(self.objective, history, talk)

    def _messages(
        self,
        history: History,
        view: View,
        evidence: dict[str, Evidence],
        most: int = HISTORY_LINES,
    ) -> list[Message]:
        """Begins like a proposal's, so that a server's prompt cache is hit."""
        task = task_text(self.brief, self.objective, view)
        lines = "\n".join(history_lines(self.objective, history, most=most))
        keys = "".join(f"{text} " for name, text in _KEYS.items() if _names(view, evidence)[name])
        ask = render("steer_ask", facts="\n".join(_facts(history, view, evidence)), keys=keys)
        return [
            system(self.hypotheses),
            Message("user", f"{task}{lines}\n{ask}".strip()),
        ]


def focus(view: View) -> tuple[str, ...]:
    """Parameters that the loop's own move may change under the strategy in force; () for all open.

    explore: those tried least. exploit: those of which a kept change gained and that have a side
    left. focused: the one or two of which a kept change gained most. These two hold while they
    gain: after REST evaluations running that were not kept all is open again until one is. Only
    open ones, and none whose every value was tried from the incumbent. () where none fits, and
    after IDLE_STEPS steps without an evaluation, so that no strategy can stop the search.
    """
    if not view.strategy or _idle(view) >= IDLE_STEPS:
        return ()
    if view.strategy != "explore" and view.streak() >= REST:
        return ()
    evidence = weigh(view)
    able = [evidence[n] for n in view.open() if not evidence[n].spent]
    gained = [e for e in able if e.kept_gain is not None]
    if view.strategy == "explore":
        least = min((e.tried for e in able), default=0)
        names = {e.name for e in able if e.tried == least}
    elif view.strategy == "exploit":
        names = {e.name for e in gained if e.sides}
    else:
        names = {e.name for e in sorted(gained, key=lambda e: -(e.kept_gain or 0))[:2]}
    return tuple(n for n in view.open() if n in names) if len(names) < len(view.open()) else ()


def schema(view: View, evidence: dict[str, Evidence]) -> dict[str, Any]:
    """JSON schema of a reply: only what may be frozen or opened can be named.

    Where nothing may, the key itself is left out, as an empty enum is no schema.
    """
    lists = {key: names for key, names in _names(view, evidence).items() if names}
    properties = {
        "diagnosis": {"type": "string", "minLength": 8, "maxLength": DIAGNOSIS_CHARS},
        **{
            key: {"type": "array", "items": {"enum": list(names)}, "maxItems": MAX_NAMES}
            for key, names in lists.items()
        },
        "strategy": {"enum": list(STRATEGIES)},
        "guidance": {"type": "string", "minLength": 8, "maxLength": GUIDANCE_CHARS},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def parse(text: str) -> Wish:
    """What a reply wishes; keys that are none of ours are passed over.

    Raises InvalidCandidate with the rule that the reply broke.
    """
    try:
        reply = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidCandidate(f"the reply is not JSON ({error.msg} at {error.pos})") from error
    if not isinstance(reply, dict):
        raise InvalidCandidate("the reply must be a JSON object")
    for key in ("diagnosis", "guidance"):
        if not isinstance(reply.get(key), str):
            raise InvalidCandidate(f'"{key}" must be a text')
    if reply.get("strategy") not in STRATEGIES:
        raise InvalidCandidate(f'"strategy" must be one of {", ".join(STRATEGIES)}')
    lists = {key: reply.get(key, []) for key in _KEYS}
    for key, names in lists.items():
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise InvalidCandidate(f'"{key}" must be a list of names of parameters')
    return Wish(
        plain(reply["diagnosis"])[:DIAGNOSIS_CHARS],
        tuple(map(plain, lists["freeze"])),
        tuple(map(plain, lists["unfreeze"])),
        reply["strategy"],
        plain(reply["guidance"]),
    )


_KEYS = {
    "freeze": '"freeze": parameters that should not change any more.',
    "unfreeze": '"unfreeze": frozen parameters that may change again.',
}


def _names(view: View, evidence: dict[str, Evidence]) -> dict[str, tuple[str, ...]]:
    """What each list of a reply may name; of the frozen those that are offered come first."""
    first = offered(view, evidence)
    rest = tuple(n for n in view.frozen if n not in first)
    return {"freeze": freezable(view, evidence), "unfreeze": (*first, *rest)}


def _wording(view: View, guidance: str) -> str:
    """What is wrong with the guidance, "" if nothing."""
    values = values_in(view.space, guidance)
    if values:
        listed = ", ".join(values)
        return f"the guidance names values ({listed}); say in words which parameters, up or down"
    if len(guidance) > GUIDANCE_CHARS:
        return f"the guidance has {len(guidance)} characters; use at most {GUIDANCE_CHARS}"
    return ""


def _granted(view: View, evidence: dict[str, Evidence], wish: Wish, cycle: int) -> Steering:
    frozen, reasons = grant(view, evidence, wish.freeze, wish.unfreeze)
    diagnosis, guidance = wish.diagnosis, wish.guidance
    if values := values_in(view.space, guidance):
        diagnosis += f" (Cut from the guidance: {', '.join(values)}.)"
        guidance = without_values(view.space, guidance)
    if len(guidance) > GUIDANCE_CHARS:
        diagnosis += f" (Of {len(guidance)} characters of guidance {GUIDANCE_CHARS} were kept.)"
        guidance = guidance[:GUIDANCE_CHARS].rstrip()
    return Steering(frozen, guidance, wish.strategy, view.step, cycle, diagnosis, reasons)


def _facts(history: History, view: View, evidence: dict[str, Evidence]) -> list[str]:
    """What the reply is to be based on, a line each."""
    tried = [e for e in evidence.values() if e.tried]
    never = [e.name for e in evidence.values() if not e.tried]
    facts = [_fact(view, e) for e in tried]
    if never:
        facts.append(f"Never tried: {', '.join(never)}.")
    facts += [_progress(history, view)]
    if view.strategy:
        facts.append(_in_force(view, history.steering))
    names = _names(view, evidence)
    may = ", ".join(names["freeze"]) or "none"
    facts.append(f"May be frozen: {may}. At least {least_open(view)} stay open.")
    if view.frozen:
        offers = ", ".join(offered(view, evidence)) or "none"
        facts.append(
            f"Frozen: {', '.join(view.frozen)}. Not tried since the search moved, "
            f"so consider opening: {offers}."
        )
    return facts


def _fact(view: View, e: Evidence) -> str:
    number = view.space[e.name].kind in ("float", "int")
    where = f", {e.below} below and {e.above} above its value now" if number else ""
    gain = "no gain"
    if e.gain is not None and e.gain > 0:
        gain = f"best gain {figure(e.gain, view.best.score)}, {e.failed} failures since"
    left = f"still to test alone: {', '.join(e.sides)}" if e.sides else "all sides failed"
    return f"{e.name}: {e.tried} tries{where}, {gain}; {left}"


def _progress(history: History, view: View) -> str:
    tries = [t for t in view.trials if t.draft is not None]
    kept = sum(1 for t in tries if t.kept)
    duplicates = sum(1 for r in history.refusals() if r.values is not None or r.rests)
    return (
        f"{kept} of {len(tries)} evaluations were kept, the last {view.streak()} were not; "
        f"{duplicates} more proposals were duplicates."
    )


def _in_force(view: View, steering: Steering) -> str:
    since = [t for t in view.trials if t.draft is not None and t.draft.step >= steering.at]
    kept = sum(1 for t in since if t.kept)
    return f'In force: "{view.strategy}"; of {len(since)} evaluations under it {kept} were kept.'


def _idle(view: View) -> int:
    """Steps since the last one that led to an evaluation."""
    last = max((t.draft.step for t in view.trials if t.draft is not None), default=-1)
    return view.step - last - 1
