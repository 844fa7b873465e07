import logging
from collections.abc import Iterator

import pytest

from bilevel.errors import ConfigError
from bilevel.llm import keys
from bilevel.llm.connect import connect

SECRET = "sk-planted-0123456789"


@pytest.fixture
def ring() -> Iterator[dict[tuple[str, str], str]]:
    """What a keyring holds, by service and name; in place of the user's own."""
    reason = "needs pip install 'bilevel[keyring]'"
    keyring = pytest.importorskip("keyring", reason=reason)
    backend = pytest.importorskip("keyring.backend", reason=reason)
    held: dict[tuple[str, str], str] = {}

    class Backend(backend.KeyringBackend):  # type: ignore[misc, name-defined]
        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            if ("broken", "") in held:
                raise keyring.errors.KeyringLocked("locked")
            return held.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            held[service, username] = password

    before = keyring.get_keyring()
    keyring.set_keyring(Backend())
    yield held
    keyring.set_keyring(before)


def test_the_environment_comes_first_and_then_the_keyring(
    ring: dict[tuple[str, str], str],
) -> None:
    ring["bilevel", "B_KEY"] = SECRET
    found = keys.find(("A_KEY", "B_KEY"), {"B_KEY": "sk-other"})
    assert found == keys.Key("B_KEY", "environment", "sk-other")
    found = keys.find(("A_KEY", "B_KEY"), {"A_KEY": ""})
    assert found == keys.Key("B_KEY", "keyring", SECRET)
    assert SECRET not in repr(found)
    assert keys.find(("A_KEY",), {}) is None


def test_a_keyring_that_does_not_open_is_logged_and_no_key(
    ring: dict[tuple[str, str], str], caplog: pytest.LogCaptureFixture
) -> None:
    ring["broken", ""] = ""
    keys._warn.cache_clear()
    with caplog.at_level(logging.INFO, "bilevel"):
        assert keys.find(("A_KEY", "B_KEY"), {}) is None
    assert caplog.messages == ["the keyring gives no key: locked"], "once, not for each key"


def test_a_system_without_a_keyring_is_told_of_only_where_a_key_is_needed(
    ring: dict[tuple[str, str], str], caplog: pytest.LogCaptureFixture
) -> None:
    import keyring
    from keyring.backends import fail

    keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]
    with caplog.at_level(logging.INFO, "bilevel"):
        assert keys.find(("A_KEY", "B_KEY"), {}) is None
        with pytest.raises(
            ConfigError, match=r"export DEEPSEEK_API_KEY=\.\.\.; this system has no"
        ):
            connect("deepseek", environ={})
    assert not caplog.messages


def test_a_key_of_the_keyring_is_used_and_never_told(
    ring: dict[tuple[str, str], str],
) -> None:
    ring["bilevel", "DEEPSEEK_API_KEY"] = SECRET
    llm = connect("deepseek", environ={})
    assert SECRET not in repr(llm)
    llm.close()


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "has_keyring", lambda: False)
    assert keys.find(("A_KEY",), {}) is None
    with pytest.raises(ConfigError, match=r"pip install 'bilevel\[keyring\]'"):
        connect("deepseek", environ={})
