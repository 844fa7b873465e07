"""The library in a store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from shelves import entry, transfer, use

from bilevel.errors import ConfigError
from bilevel.store.library import Library
from bilevel.store.sqlite import SqliteStore

WHOLE = entry("whole", [0.2, 0.4], transfers=[transfer("gpt", 0.1, -0.2)])


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(SqliteStore(tmp_path / "runs.sqlite"))


def test_an_entry_comes_back_as_it_went_in(library: Library) -> None:
    assert library.entries() == []
    assert library.add(WHOLE)
    assert library.entries() == [WHOLE]
    assert library.shas() == {WHOLE.sha}


def test_adding_again_changes_nothing_but_completes_the_record(library: Library) -> None:
    library.add(WHOLE)
    assert not library.add(WHOLE)
    assert library.entries() == [WHOLE]
    later = replace(WHOLE, run="toy-9", uses=(use(9, 0.7),), transfers=())
    assert not library.add(later)
    (found,) = library.entries()
    assert found.run == "toy-1", "the first origin stays"
    assert found.uses == (*WHOLE.uses, use(9, 0.7))
    assert found.transfers == WHOLE.transfers


def test_a_use_of_the_same_key_takes_the_place_of_the_earlier(library: Library) -> None:
    library.add(WHOLE)
    library.record(WHOLE.sha, use(0, 0.9))
    (found,) = library.entries()
    assert found.uses == (use(0, 0.9), WHOLE.uses[1])


def test_a_later_trial_on_fewer_seeds_leaves_the_others_as_they_were(library: Library) -> None:
    harms = transfer("gpt", -0.2, -0.21, -0.19, -0.2, -0.22)
    library.add(replace(WHOLE, transfers=(harms,)))
    now = library.tried(WHOLE.sha, transfer("gpt", 0.5))
    assert library.find(WHOLE.sha).transfers == (now,)
    assert now.gains == {**harms.gains, "0": 0.5}
    library.tried(WHOLE.sha, transfer("gpt", -0.2))
    assert library.find(WHOLE.sha).transfers[0].verdict == "harms"


def test_an_older_export_takes_no_seed_away_and_changes_none(library: Library) -> None:
    older = replace(transfer("gpt", 0.5, 0.5), gains={"0": 0.5, "9": 0.5}, faults=1)
    library.add(replace(WHOLE, transfers=(transfer("gpt", 0.1, 0.2, 0.3),)))
    assert not library.add(replace(WHOLE, transfers=(older,)))
    (found,) = library.find(WHOLE.sha).transfers
    assert found.gains == {"0": 0.1, "1": 0.2, "2": 0.3, "9": 0.5}
    assert found.faults == 1


def test_faults_of_trials_without_a_common_seed_are_added_up(library: Library) -> None:
    first, second = (
        replace(transfer("gpt", 0.1), gains={seed: 0.1}, faults=2) for seed in ("0", "10")
    )
    library.add(replace(WHOLE, transfers=(first,)))
    assert library.tried(WHOLE.sha, second).faults == 4
    assert library.tried(WHOLE.sha, second).faults == 4


def test_one_is_found_by_the_beginning_of_its_sha(library: Library) -> None:
    shelf = [entry(f"word {i}") for i in range(17)]
    for one in shelf:
        library.add(one)
    assert library.find(shelf[3].sha[:12]) == shelf[3]
    twice = next(e.sha[0] for e in shelf if sum(o.sha[0] == e.sha[0] for o in shelf) > 1)
    with pytest.raises(ConfigError, match=r"the beginning of that of \d+ mechanisms; give more"):
        library.find(twice)
    for none in ("", "xyz"):
        with pytest.raises(ConfigError, match="no sha in the library"):
            library.find(none)


def test_what_is_removed_is_gone_with_its_record(library: Library) -> None:
    other = entry("other", [0.1])
    library.add(WHOLE)
    library.add(other)
    library.remove([WHOLE.sha])
    assert library.entries() == [other]
    library.add(replace(WHOLE, uses=(), transfers=()))
    assert library.find(WHOLE.sha).uses == ()
