"""The filter, run instruction by instruction, and its table against the kernel's headers."""

from __future__ import annotations

import errno
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from bilevel.sandbox import attempts, limits

MACHINES = sorted(limits.ALLOWED)
PID = 4242
EPERM, ENOSYS, ENOTTY = (limits.ERRNO | e for e in (errno.EPERM, errno.ENOSYS, errno.ENOTTY))
HEADERS = {
    "x86_64": (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), "__NR_"),
    "aarch64": (Path("/usr/include/asm-generic/unistd.h"), "__NR(?:3264)?_"),
}


def decide(
    machine: str,
    number: int,
    *arguments: int,
    arch: int | None = None,
    more: Mapping[str, int] = MappingProxyType({}),
) -> int:
    """What the filter answers to a call, by the rules of classic BPF."""
    arch = limits.AUDIT_ARCH[machine] if arch is None else arch
    data = struct.pack("<IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    program, at, held = limits.bpf(machine, PID, more), 0, 0
    while True:
        code, yes, no, value = program[at]
        at += 1
        if code == limits.RETURN:
            return value
        if code == limits.LOAD:
            held = struct.unpack_from("<I", data, value)[0]
        elif code == limits.EQUAL:
            at += yes if held == value else no
        else:
            assert code == limits.AT_LEAST
            at += yes if held >= value else no


@pytest.mark.parametrize("machine", MACHINES)
def test_the_table_and_nothing_else_is_allowed(machine: str) -> None:
    allowed = {n for n in range(700) if decide(machine, n) == limits.ALLOW}
    checked = {limits.SPECIAL[machine]["prlimit64"]}  # all arguments 0: reading one's own
    assert allowed == set(limits.ALLOWED[machine].values()) | checked


@pytest.mark.parametrize("machine", MACHINES)
def test_arguments_decide_for_some(machine: str) -> None:
    number = limits.SPECIAL[machine]
    assert decide(machine, number["fcntl"], 3, 3) == limits.ALLOW
    assert decide(machine, number["fcntl"], 3, 8, PID) == EPERM
    assert decide(machine, number["fcntl"], 3, 10, 9) == EPERM
    assert decide(machine, number["prlimit64"], 0, 7, 0) == limits.ALLOW
    assert decide(machine, number["prlimit64"], PID, 7, 0) == EPERM
    assert decide(machine, number["prlimit64"], 0, 7, 2**40) == EPERM
    assert decide(machine, number["tgkill"], PID, PID, 6) == limits.ALLOW
    assert decide(machine, number["tgkill"], PID - 1, PID - 1, 9) == EPERM
    assert decide(machine, number["ioctl"], 0) == ENOTTY
    assert decide(machine, number["clone3"]) == ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_a_guests_process_may_wait_besides(machine: str) -> None:
    call = limits.EPOLL[machine]["epoll_pwait"]
    assert decide(machine, call) == EPERM
    assert decide(machine, call, more=limits.EPOLL[machine]) == limits.ALLOW


def test_other_architectures_are_killed() -> None:
    assert decide("x86_64", 0, arch=0x40000003) == limits.KILL  # int 0x80
    assert decide("aarch64", 63, arch=0x40000028) == limits.KILL  # 32-bit arm
    assert decide("x86_64", 0x40000000) == ENOSYS  # x32


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_the_kernels(machine: str) -> None:
    path, prefix = HEADERS[machine]
    if not path.exists():
        pytest.skip(f"no kernel headers at {path}")
    found = re.findall(rf"#define {prefix}(\w+)\s+(\d+)", path.read_text())
    kernel = {name: int(number) for name, number in found}
    ours = {**limits.ALLOWED[machine], **limits.SPECIAL[machine], **limits.EPOLL[machine]}
    assert ours == {name: kernel.get(name) for name in ours}


def test_an_attempt_that_succeeds_says_so() -> None:
    assert attempts.attempt("stat") == "stat went through"
    assert attempts.attempt("exec").startswith("exec: ")


def test_the_profile_for_macos_allows_nothing_but_to_end() -> None:
    head, deny, *allowed = limits.seatbelt_profile().splitlines()
    assert (head, deny) == ("(version 1)", "(deny default)")
    assert allowed == ["(allow signal (target self))"]


def test_macos_is_locked_by_its_own_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(limits.steps(1))[-2:] == ["landlock", "seccomp"]
    monkeypatch.setattr(limits, "MACOS", True)
    assert list(limits.steps(1)) == ["drop root", "seatbelt"]
