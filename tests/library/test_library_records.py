"""What runs tell the library, from their logs alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bilevel.accounts import accounts, credited
from bilevel.codec import dump_log, load_log
from bilevel.library.library import kinds
from bilevel.library.proposer import STAND_IN
from bilevel.library.records import collect, identity
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.store.library import Library
from bilevel.store.sqlite import SqliteStore
from threelevels import SOURCE, held, left, recorded

pytestmark = pytest.mark.skipif(not held(), reason="this machine cannot lock a worker")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(SqliteStore(tmp_path / "runs.sqlite"))


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made


def test_a_run_tells_what_its_sessions_admitted_and_what_that_did(
    library: Library, sandbox: Sandbox
) -> None:
    run, records = recorded()
    collect(library, run, records, sandbox)
    (entry,) = library.entries()
    (account,) = accounts(run, records, credited(run, records))
    assert entry.source == account.source
    assert entry.source.source == SOURCE
    assert (entry.task, entry.run, entry.llm) == ("toy", run.id, "scripted")
    assert entry.parameters == kinds(run.space)
    assert entry.hypotheses == account.said
    (use,) = entry.uses
    assert account.credit is not None
    assert use.different == account.credit.different > 0
    assert 0 < use.decisions < account.credit.decisions, "it joined half way"
    assert (use.asked, use.changed) == (
        sum(i.asked for i in account.influence),
        sum(i.changed for i in account.influence),
    )
    assert (use.touched, use.faults, use.left) == (len(account.trials), 0, "")
    assert use.kept == sum(t.kept for t in account.trials)


def test_a_second_time_nothing_changes_whatever_the_run_is_read_from(
    library: Library, sandbox: Sandbox
) -> None:
    run, records = recorded()
    collect(library, run, records, sandbox)
    before = library.entries()
    collect(library, run, records, sandbox)
    read, listed = load_log(dump_log(run, records))
    assert read != run
    assert identity(read) == identity(run)
    collect(library, read, listed, sandbox)
    assert library.entries() == before


def test_why_it_was_taken_out_is_noted(library: Library, sandbox: Sandbox) -> None:
    collect(library, *left(), sandbox)
    assert library.entries()[0].uses[0].left == "it did\nharm"


def test_what_a_sham_left_out_is_there_and_was_not_used(library: Library, sandbox: Sandbox) -> None:
    collect(library, *recorded(sham=True), sandbox)
    (entry,) = library.entries()
    assert entry.source.source == SOURCE
    assert entry.uses == ()


def test_a_users_file_tells_only_what_the_library_holds(library: Library, sandbox: Sandbox) -> None:
    run, records = recorded()
    collect(library, run, records, sandbox)
    (entry,) = library.entries()
    mine = replace(run, id="toy-2", stack=(f"mine@{entry.sha}",), sources={entry.sha: SOURCE})
    searched = [r for r in records if type(r).__name__ in ("Trial", "Proposal", "Decision")]
    collect(library, replace(mine, llm=STAND_IN), searched, sandbox)
    assert len(library.entries()[0].uses) == 1, "a trial of a mechanism is no use of it"
    collect(library, mine, searched, sandbox)
    first, second = sorted(library.entries()[0].uses, key=lambda u: u.run)
    assert second.decisions > first.decisions, "it was there from the start"
    library.remove([entry.sha])
    collect(library, mine, searched, sandbox)
    assert library.entries() == []
