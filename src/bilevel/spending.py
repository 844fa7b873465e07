"""What a run's log keeps of money and limits. All are frozen and made of JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Rate:
    """US dollars per million tokens, for requests with more than `above` tokens of prompt.

    cached: of those tokens of a prompt that the server reused.
    """

    input: float
    output: float
    cached: float
    above: int = 0


@dataclass(frozen=True)
class Prices:
    """What a model costs; the snapshot that a run goes by, whatever a table says later.

    model: by the run's name for it. kind: from the `table`, `given` by the user, `local` for one
    that runs on a machine of the user's and costs nothing here, or `unknown`, which is not nothing.
    rates: by `above`, the lowest first. source: where they are from, or why they are not known.
    """

    model: str
    kind: Literal["table", "given", "local", "unknown"]
    rates: tuple[Rate, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Opening:
    """A part of the run begins: the first, or one after a stop.

    seconds: the run's wall-clock time before it. limits: all that hold from here on, as `budget`
    writes them. sandbox: how well generated code is held from here on, "" where there is none.
    """

    step: int
    seconds: float
    limits: Mapping[str, float]
    sandbox: str = ""


@dataclass(frozen=True)
class Ask:
    """A call begins; with the most that it can take, for which it counts until its reply is here.

    Kept where a limit depends on it. One that was never answered, as the process was killed or the
    attempt failed, may have been paid for, and counts for ever. usd: None where the price is not
    known. more: whether it is on top of one with the same key, whose reply tells what both took.
    """

    key: str
    step: int
    level: Literal["1", "1.5", "2"]
    tokens: int
    usd: float | None
    more: bool = False


@dataclass(frozen=True)
class Denial:
    """A call that was not made, as it could have crossed a limit; a fact for whoever replays.

    key: of the request. limit: as in the run's limits, `usd` or `2:tokens`; amount: what it was.
    needs: what it must be for the call, None where not known, as in logs of before.
    """

    key: str
    step: int
    level: Literal["1", "1.5", "2"]
    purpose: str
    limit: str
    amount: float
    why: str
    needs: float | None = None


@dataclass(frozen=True)
class Share:
    """What one level is expected to take, as (least, most): if every reply is used, and if each
    is as long as it may be and has to be repaired, and Level 2 has no source admitted.

    seconds, usd: None where not known.
    """

    level: str
    calls: tuple[int, int]
    tokens_in: tuple[int, int]
    tokens_out: tuple[int, int]
    seconds: tuple[float, float] | None
    usd: tuple[float, float] | None


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take, said before it.

    jobs: evaluations, baselines included, and at most confirmations too. job_seconds: of one, None
    where it was never timed. slots: how many run at a time. basis: what the figures rest on.
    """

    levels: tuple[Share, ...]
    jobs: tuple[int, int]
    slots: int
    job_seconds: float | None
    basis: tuple[str, ...]
