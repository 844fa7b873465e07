"""How a model is named in the log and in the keys of the tape."""

from __future__ import annotations

import re

from bilevel.errors import ConfigError

TEMPERATURE = 0.7


def label(name: str, temperature: float | None) -> str:
    """The model's name with its temperature, unless that is the usual one."""
    if temperature is None:
        return f"{name} at its own temperature"
    return name if temperature == TEMPERATURE else f"{name} at temperature {temperature:g}"


def check_spec(spec: str) -> None:
    """Raises ConfigError for a URL with a user or a password: a spec is stored and published."""
    if re.search(r"://\S*@", spec):
        raise ConfigError(
            "the URL of an LLM holds a user or a password, and what --llm says is kept in the log "
            "of the run; leave it out, as in MODEL@https://host/v1, and give the key by "
            "BILEVEL_API_KEY in the environment or the keyring (keyring set bilevel "
            "BILEVEL_API_KEY); a URL that needs a user goes into VLLM_BASE_URL, for vllm/MODEL"
        )
