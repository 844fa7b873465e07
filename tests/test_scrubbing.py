"""Secrets are blotted out whole and in parts, star for character; other text stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilevel.model import Outcome
from bilevel.scrubbing import Discreet, Scrubber, secrets_in
from worlds import Instant

KEY = "Zk7-hemlock_Q9x2/Lavender+31"
HOME = Path("/home/ottoline")
FORMED = [
    "sk-proj-A1b2C3d4E5f6G7h8I9j0",
    "sk-ant-api03-A1b2C3d4E5f6G7h8",
    "ghp_A1b2C3d4E5f6G7h8I9j0K1",
    "github_pat_A1b2C3d4E5f6G7h8I9j0K1",
    "hf_A1b2C3d4E5f6G7h8I9j0",
    "gsk_A1b2C3d4E5f6G7h8I9j0",
    "AIzaA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p",
    "xoxb-1234567890-abcdefgh",
    "AKIAABCDEFGHIJKLMNOP",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
]


def scrubber() -> Scrubber:
    return Scrubber({"DEPLOY_TOKEN": KEY}, HOME)


def test_a_known_value_is_blotted_out_by_as_many_stars() -> None:
    made = scrubber()
    assert made.text(f"before {KEY} after") == f"before {'*' * len(KEY)} after"
    assert made.found == {"DEPLOY_TOKEN": 1}


@given(st.text(), st.integers(0, len(KEY)), st.integers(0, len(KEY)), st.text())
def test_a_part_of_a_secret_is_blotted_out_wherever_it_was_cut(
    before: str, start: int, end: int, after: str
) -> None:
    part = KEY[start:end]
    said = scrubber().text(before + part + after)
    assert len(said) == len(before + part + after)
    assert not any(KEY[i : i + 8] in said for i in range(len(KEY) - 7))


@given(st.integers(0, 60))
def test_a_text_cut_before_it_was_scrubbed_equals_one_cut_after(length: int) -> None:
    whole = f"the server said: {KEY} is wrong"
    cut = scrubber().text(whole[:length])
    start = whole.index(KEY)
    if length < start + 8:
        assert cut == whole[:length]  # fewer than eight of its characters are no secret
    else:
        assert cut == scrubber().text(whole)[:length]


@pytest.mark.parametrize("secret", FORMED)
def test_what_has_the_form_of_a_key_is_blotted_out(secret: str) -> None:
    made = Scrubber({})
    assert made.text(f'401: "{secret}" is no key') == f'401: "{"*" * len(secret)}" is no key'
    assert made.found.total() == 1


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Authorization: Bearer abc123DEF456ghi789", "Authorization: Bearer ******************"),
        ("http://anna:hunter2@host/v1", "http://anna:*******@host/v1"),
        ('{"api_key": "0123456789abcdef0"}', '{"api_key": "*****************"}'),
        ("password=Tr0ub4dor-and-3-more ok", "password=******************** ok"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----\n****\n****\n-----END RSA PRIVATE KEY-----",
        ),
    ],
)
def test_what_stands_where_a_secret_stands_is_blotted_out(text: str, clean: str) -> None:
    assert Scrubber({}).text(text) == clean


def test_what_has_the_form_of_a_key_in_one_place_is_known_in_parts_in_all() -> None:
    made = Scrubber({})
    made.learn({"error": [f"no such key: {FORMED[0]}"]})
    assert made.text(f"cut: {FORMED[0][:12]}") == "cut: ************"


def test_the_users_folder_keeps_its_parents_and_loses_its_name() -> None:
    made = scrubber()
    assert made.text("/home/ottoline/data/x.py") == "/home/********/data/x.py"
    assert made.text("/home/ottolines and /home/otto") == "/home/ottolines and /home/otto"
    assert Scrubber({}, Path("/root")).text("at /root/x, 1/root, /rooted") == (
        "at /****/x, 1/****, /rooted"
    )


@pytest.mark.parametrize(
    "text",
    [
        "RATE 0.04 -> 0.06: val_bpb 3.4412, 0.0021 better than #3, kept",
        "next_token = tokens[:, -1]; max_tokens=300, secret = None, password: str = ''",
        "token = tokenizer.encode(text)[position_of_first]",
        "sha256 0d1d8906fc43db6e14a362b3d7b96d344a8246aa466ec0c015e2954558f9a564",
        "https://example.com/a:b@c and http://localhost:8080/v1 and sk-learn",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert scrubber().text(text) == text


def test_json_values_are_scrubbed_all_through_and_stay_json() -> None:
    value = {"a": [KEY, 1, None, {KEY: True}], "nested": json.dumps({"said": f'"{KEY}"\n'})}
    clean = scrubber().scrub(value)
    stars = "*" * len(KEY)
    assert clean["a"] == [stars, 1, None, {stars: True}]
    assert json.loads(clean["nested"]) == {"said": f'"{stars}"\n'}


def test_a_secret_is_found_in_the_forms_that_json_and_addresses_give_it() -> None:
    made = Scrubber({"A_KEY": 'qu"ote/pl+us é 4711'})
    assert "ote" not in made.text(json.dumps('qu"ote/pl+us é 4711'))
    assert "4711" not in made.text("?key=qu%22ote%2Fpl%2Bus%20%C3%A9%204711")


def test_secrets_are_variables_named_like_keys_and_no_paths_or_short_words(tmp_path: Path) -> None:
    environ = {
        "OPENAI_API_KEY": "not-like-a-key-at-all",
        "db_password": "correcthorse",
        "SENTRY_DSN": "https://abcdef0123@sentry.example/1",
        "TOKENIZERS_PARALLELISM": "falsefalse",
        "KEYBOARD": "qwertzuiop",
        "SSH_KEY": str(tmp_path),
        "A_TOKEN": "short",
        "PATH": "/usr/bin:/bin",
    }
    assert sorted(secrets_in(environ)) == ["OPENAI_API_KEY", "SENTRY_DSN", "db_password"]


def test_the_scheme_of_an_address_is_no_secret() -> None:
    made = Scrubber(secrets_in({"SENTRY_DSN": "https://abcdef0123@sentry.example/1"}))
    assert made.text("see https://docs.python.org") == "see https://docs.python.org"


def test_an_evaluation_that_prints_a_secret_is_logged_without_it() -> None:
    failing = Instant(measure=lambda values, seed: Outcome("crash", None, error=f"{KEY}: denied"))
    evaluator = Discreet(failing, scrubber())
    evaluator.start(0, {}, 0)
    (ended,) = evaluator.finished()
    assert ended.outcome == Outcome("crash", None, error=f"{'*' * len(KEY)}: denied")
    assert evaluator.slots == failing.slots
