"""What can be set for a model on a server: `?rpm=60&timeout=300` at the end of its spec.

The same in BILEVEL_LLM_OPTIONS holds for all models, where a spec says nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bilevel.errors import ConfigError
from bilevel.llm.limits import Rates

VARIABLE = "BILEVEL_LLM_OPTIONS"


class Options(BaseModel):
    """rpm, tpm: most requests and tokens a minute. concurrency: most requests at a time.

    timeout: seconds for one attempt. thoughts: tokens that a model may think, on top of its reply.
    temperature: of the sampling. All None where nothing was set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rpm: int | None = Field(None, ge=1)
    tpm: int | None = Field(None, ge=1)
    concurrency: int | None = Field(None, ge=1)
    timeout: float | None = Field(None, gt=0)
    thoughts: int | None = Field(None, ge=0)
    temperature: float | None = Field(None, ge=0)

    @property
    def rates(self) -> Rates:
        return Rates(self.rpm, self.tpm, self.concurrency)


def split(spec: str, environ: Mapping[str, str]) -> tuple[str, Options]:
    """The spec without its options, and these. Raises ConfigError with the option that is wrong."""
    spec, _, text = spec.partition("?")
    given = {**_pairs(environ.get(VARIABLE, ""), VARIABLE), **_pairs(text, "--llm")}
    try:
        return spec, Options.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = first["loc"][0]
        why = f"{name}={first['input']}: {first['msg']}"
        if first["type"] == "extra_forbidden":
            why = f"{name}: there is no such option"  # its value may be a secret
        raise ConfigError(
            f"an LLM's option {why}; there are {', '.join(Options.model_fields)}"
        ) from None


def _pairs(text: str, where: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text)))
    except ValueError:
        raise ConfigError(
            f"the options in {where} are {text!r}; write them as rpm=60&timeout=300"
        ) from None
