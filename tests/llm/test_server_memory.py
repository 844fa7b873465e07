import json
from datetime import date, timedelta
from pathlib import Path

import pytest

from bilevel.llm.forms import Manner
from bilevel.llm.memory import DAYS, Memory

TOLD = Manner("tool", frozenset({"seed"}))


def test_what_was_found_out_is_kept_by_server_and_model(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "new" / "servers.json", lambda: date(2026, 11, 21))
    memory.keep("https://a/v1", "m", TOLD, "400: no")
    memory.keep("https://b/v1", "m", Manner("text"), "400: never")
    again = Memory(memory.path, lambda: date(2026, 11, 22))
    assert again.find("https://a/v1", "m") == TOLD
    assert again.find("https://b/v1", "m") == Manner("text")
    assert again.find("https://a/v1", "other") is None
    entry = json.loads(memory.path.read_text())["https://a/v1 m"]
    assert (entry["date"], entry["why"]) == ("2026-11-21", "400: no")
    assert [p.name for p in memory.path.parent.iterdir()] == ["servers.json"]


def test_it_is_forgotten_after_a_while(tmp_path: Path) -> None:
    then = date(2026, 11, 21)
    Memory(tmp_path / "s.json", lambda: then).keep("https://a", "m", TOLD, "")
    for days, found in ((DAYS, TOLD), (DAYS + 1, None)):
        later = Memory(tmp_path / "s.json", lambda days=days: then + timedelta(days))
        assert later.find("https://a", "m") == found


def test_what_a_version_that_knew_other_forms_found_out_is_found_out_again(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "s.json", lambda: date(2026, 11, 21))
    memory.keep("https://a", "m", TOLD, "")
    entries = json.loads(memory.path.read_text())
    entries["https://a m"]["of"].remove("gbnf")
    memory.path.write_text(json.dumps(entries))
    assert memory.find("https://a", "m") is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"https://a m": 3}', '{"https://a m": {"form": "tool"}}',
     '{"https://a m": {"form": "telepathy", "without": [], "date": "2026-11-21"}}',
     '{"https://a m": {"form": "tool", "without": [], "date": "soon"}}'],
)  # fmt: skip
def test_a_file_that_is_damaged_or_of_another_version_is_no_obstacle(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    memory = Memory(path, lambda: date(2026, 11, 21))
    assert memory.find("https://a", "m") is None
    memory.keep("https://a", "m", TOLD, "")
    assert memory.find("https://a", "m") == TOLD


def test_a_folder_that_cannot_be_written_is_said_and_no_obstacle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    memory = Memory(tmp_path / "file" / "s.json")
    memory.keep("https://a", "m", TOLD, "")
    assert "is not kept" in caplog.text
