"""Where API keys are found: the environment, then the system's keyring. Never in a file of ours."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

log = logging.getLogger(__name__)
SERVICE = "bilevel"


@dataclass(frozen=True)
class Key:
    """A key and its name. where: in which of the two places it was found."""

    name: str
    where: str
    value: str = field(repr=False)


def find(names: Sequence[str], environ: Mapping[str, str]) -> Key | None:
    """The first of these that is set, in the environment or else in the keyring."""
    for name in names:
        if value := environ.get(name):
            return Key(name, "environment", value)
    for name in names:
        if value := from_keyring(name):
            return Key(name, "keyring", value)
    return None


def has_keyring() -> bool:
    """Whether the library that speaks to the system's keyring is installed."""
    return importlib.util.find_spec("keyring") is not None


def from_keyring(name: str) -> str | None:
    """A key that was put in with `keyring set bilevel NAME`; None without one or a keyring."""
    if not has_keyring():
        return None
    import keyring
    import keyring.errors

    try:
        return keyring.get_password(SERVICE, name)
    except keyring.errors.NoKeyringError:
        return None
    except keyring.errors.KeyringError as error:
        _warn(str(error))
        return None


@cache
def _warn(why: str) -> None:
    """Say it once a process, not for each key."""
    log.warning("the keyring gives no key: %s", why)


def how_to_set(names: Sequence[str]) -> str:
    """What a user can do to set the first of these."""
    export = f"export {names[0]}=..."
    command = f"keyring set {SERVICE} {names[0]}"
    if not has_keyring():
        return f"{export}, or pip install 'bilevel[keyring]', then {command}"
    import keyring
    import keyring.backends.fail

    if isinstance(keyring.get_keyring(), keyring.backends.fail.Keyring):
        return f"{export}; this system has no keyring"
    return f"{export}, or {command}"
