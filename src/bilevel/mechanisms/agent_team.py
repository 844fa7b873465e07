"""Specialists on one candidate."""

from __future__ import annotations

from bilevel.mechanism import Mechanism, View
from bilevel.model import Draft, Move


class AgentTeam(Mechanism):
    """Lays the changes of three roles over each other; a crash is sent back once.

    Source: Shen et al., "An Empirical Study of Multi-Agent Collaboration for Automated Research",
    arXiv 2603.29632, 2026, team mode: architecture, optimiser and efficiency relay on one
    candidate, one training, one repair by an engineer.
    Faithful: three specialists, one evaluation for all, one repair.
    Adapted: one turn each instead of two; they write side by side from the incumbent, and `screen`
    lays their changes over each other in the order of the relay.
    """

    ROLES = (
        "You are the architecture specialist: change the size or shape of what is built.",
        "You are the optimiser specialist: change rates, schedules or regularisation.",
        "You are the efficiency specialist: get more useful work out of the same budget.",
    )
    REPAIR = "You are the engineer: #{} ended as {}. Mend it with the smallest change."

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        """One move a role, or one repair of a candidate that failed."""
        last = view.trials[-1]
        asked = last.draft is not None and view.step == last.draft.step + 1
        if last.score is None and asked and last in view.by_tag("agent_team:role"):
            return [
                Move(
                    (last.id,),
                    note=self.REPAIR.format(last.id, last.status),
                    tag="agent_team:repair",
                )
            ]
        base = (view.incumbent.id,)
        return [Move(base, note=role, tag="agent_team:role") for role in self.ROLES]

    def screen(self, view: View, drafts: list[Draft]) -> list[Draft]:
        """The first role's draft with the changes of all; unmerged when that was evaluated."""
        team = [d for d in drafts if "agent_team:role" in d.move.tag.split()]
        if len(team) < 2:
            return drafts
        base, merged = view.incumbent.values, dict(view.incumbent.values)
        for draft in team:
            merged |= {n: draft.values[n] for n in view.space.changed(base, draft.values)}
        others = [d for d in drafts if d not in team]
        if any(not view.space.changed(merged, t.values) for t in view.trials):
            return [team[0], *others]
        why = "; ".join(d.hypothesis for d in team if d.hypothesis)
        return [team[0].edit(merged, why), *others]
