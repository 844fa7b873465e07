"""How a worker locks itself down.

Standard library only: the worker loads this file by its path. Nothing here reports success; only
attempts.py does, by trying what must fail. Facts about Linux are from seccomp(2), landlock(7),
prctl(2) and the kernel's headers. What is done on macOS is from Apple's sandbox_init(3) and from
how Chromium uses it, and has not been run.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType

NOBODY = 65534
MACOS = sys.platform == "darwin"

# Rights of landlock(7) by the ABI version that brought them.
LANDLOCK_FS = ((1, 13), (2, 14), (3, 15), (5, 16))
LANDLOCK_CREATE, LANDLOCK_RESTRICT = 444, 446

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC = 1, 1
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # BPF: ld abs, jeq, jge, ret

# No call in this table takes a path, makes a process or thread, or reaches another process.
X86_64 = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14,
    "rt_sigreturn": 15, "pread64": 17, "readv": 19, "writev": 20, "select": 23,
    "sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35, "getpid": 39, "exit": 60,
    "uname": 63, "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "sysinfo": 99,
    "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110,
    "sigaltstack": 131, "gettid": 186, "time": 201, "futex": 202, "sched_getaffinity": 204,
    "set_tid_address": 218, "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229,
    "clock_nanosleep": 230, "exit_group": 231, "pselect6": 270, "ppoll": 271,
    "set_robust_list": 273, "get_robust_list": 274, "getcpu": 309, "getrandom": 318,
    "membarrier": 324, "rseq": 334,
}  # fmt: skip
AARCH64 = {
    "read": 63, "write": 64, "close": 57, "fstat": 80, "lseek": 62, "mmap": 222,
    "mprotect": 226, "munmap": 215, "brk": 214, "rt_sigaction": 134, "rt_sigprocmask": 135,
    "rt_sigreturn": 139, "pread64": 67, "readv": 65, "writev": 66, "sched_yield": 124,
    "mremap": 216, "madvise": 233, "nanosleep": 101, "getpid": 172, "exit": 93, "uname": 160,
    "gettimeofday": 169, "getrlimit": 163, "getrusage": 165, "sysinfo": 179, "times": 153,
    "getuid": 174, "getgid": 176, "geteuid": 175, "getegid": 177, "getppid": 173,
    "sigaltstack": 132, "gettid": 178, "futex": 98, "sched_getaffinity": 123,
    "set_tid_address": 96, "restart_syscall": 128, "clock_gettime": 113, "clock_getres": 114,
    "clock_nanosleep": 115, "exit_group": 94, "pselect6": 72, "ppoll": 73,
    "set_robust_list": 99, "get_robust_list": 100, "getcpu": 168, "getrandom": 278,
    "membarrier": 283, "rseq": 293,
}  # fmt: skip
# Allowed for some arguments only, or refused with another error than EPERM.
SPECIAL = {
    "x86_64": {
        "seccomp": 317, "fcntl": 72, "prlimit64": 302, "tgkill": 234, "ioctl": 16,
        "clone3": 435, "openat2": 437,
    },
    "aarch64": {
        "seccomp": 277, "fcntl": 25, "prlimit64": 261, "tgkill": 131, "ioctl": 29,
        "clone3": 435, "openat2": 437,
    },
}  # fmt: skip
# What the process around a WebAssembly guest needs besides: waiting, in its engine's threads.
EPOLL = {
    "x86_64": {"epoll_wait": 232, "epoll_ctl": 233, "epoll_pwait": 281, "epoll_pwait2": 441},
    "aarch64": {"epoll_ctl": 21, "epoll_pwait": 22, "epoll_pwait2": 441},
}
ALLOWED = {"x86_64": X86_64, "aarch64": AARCH64}
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

Instruction = tuple[int, int, int, int]


def lower_limits(memory: int, cpu: int) -> None:
    """Sets the limits of resources that no one can raise again. memory: bytes, cpu: seconds."""
    os.nice(10)
    for name, most in (
        ("CORE", 0),
        ("CPU", cpu),
        *(() if MACOS else (("AS", memory),)),  # macOS refuses or ignores it; the host watches
        ("FSIZE", 2**20),
        ("NOFILE", 64),
        ("NPROC", 0),
        ("MEMLOCK", 0),
        ("MSGQUEUE", 0),
    ):
        which = getattr(resource, f"RLIMIT_{name}", None)
        if which is not None:
            hard = resource.getrlimit(which)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(which, (most, most))


def steps(parent: int | None) -> dict[str, Callable[[], None]]:
    """What locks this process, by name and in order; each step may raise OSError.

    parent: process id of the host, None where it cannot be seen.
    """
    if MACOS:
        return {"drop root": drop_root, "seatbelt": apply_seatbelt}
    return {
        "drop root": drop_root,
        "die with parent": lambda: die_with_parent(parent),
        "no new privileges": no_new_privileges,
        "landlock": apply_landlock,
        "seccomp": apply_seccomp,
    }


def drop_root() -> None:
    """Becomes nobody. Raises PermissionError for a root that may not, as in some containers."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setregid(NOBODY, NOBODY)  # a root's saved id follows
        os.setreuid(NOBODY, NOBODY)


def die_with_parent(parent: int | None) -> None:
    """Has the kernel kill this process when the host goes; ends it if the host has gone."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def no_new_privileges() -> None:
    """Takes away the chance that a started program has more rights. seccomp(2) asks for it."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def apply_landlock() -> None:
    """Denies every path, port and scope by an empty ruleset. Raises OSError where there is none."""
    version = _syscall(LANDLOCK_CREATE, None, 0, 1)
    bits = max(count for since, count in LANDLOCK_FS if since <= version)
    rights = struct.pack("QQQ", 2**bits - 1, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _syscall(LANDLOCK_CREATE, rights, size, 0)
    _syscall(LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)


def apply_seccomp(more: Mapping[str, Mapping[str, int]] = MappingProxyType({})) -> None:
    """Leaves this process the calls of the table. Raises OSError where the kernel cannot.

    more: calls that are allowed besides, by machine.
    """
    machine = os.uname().machine
    if machine not in ALLOWED:
        raise OSError(errno.ENOSYS, f"no table of system calls for {machine}")
    lines = bpf(machine, os.getpid(), more.get(machine, {}))
    program = b"".join(struct.pack("HBBI", *line) for line in lines)
    code = ctypes.create_string_buffer(program)
    # struct sock_fprog: a count and a pointer, aligned.
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    seccomp = SPECIAL[machine]["seccomp"]
    _syscall(seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, header)


def bpf(
    machine: str, pid: int, more: Mapping[str, int] = MappingProxyType({})
) -> list[Instruction]:
    """The filter: kill on a foreign architecture, allow the table and more, EPERM for the rest."""
    number = SPECIAL[machine]
    lines: list[Instruction] = [
        (LOAD, 0, 0, 4),
        (EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, 0),
    ]
    if machine == "x86_64":  # numbers from 2**30 are the x32 interface
        lines += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    for call in (*ALLOWED[machine].values(), *more.values()):
        lines += [(EQUAL, 0, 1, call), (RETURN, 0, 0, ALLOW)]
    for name, error in (
        ("clone3", errno.ENOSYS),
        ("openat2", errno.ENOSYS),
        ("ioctl", errno.ENOTTY),
    ):
        lines += [(EQUAL, 0, 1, number[name]), (RETURN, 0, 0, ERRNO | error)]
    # Of fcntl only F_GETFD, F_SETFD and F_GETFL; of prlimit only reading one's own.
    lines += _only(number["fcntl"], {(1, 0): (1, 2, 3)})
    lines += _only(number["prlimit64"], {(0, 0): (0,), (2, 0): (0,), (2, 4): (0,)})
    lines += _only(number["tgkill"], {(0, 0): (pid,)})
    return [*lines, (RETURN, 0, 0, ERRNO | errno.EPERM)]


def _only(call: int, rules: dict[tuple[int, int], tuple[int, ...]]) -> list[Instruction]:
    """Allows a call when each (argument, byte in it) holds one of the values."""
    block: list[Instruction] = []
    for (argument, byte), values in rules.items():
        block.append((LOAD, 0, 0, 16 + 8 * argument + byte))
        for i, value in enumerate(values):
            block.append((EQUAL, len(values) - i, 0, value))
        block.append((RETURN, 0, 0, ERRNO | errno.EPERM))
    block.append((RETURN, 0, 0, ALLOW))
    return [(EQUAL, 0, len(block), call), *block]


def seatbelt_profile() -> str:
    """What macOS is told, in the language of sandbox-exec(1): nothing, but to end by a signal."""
    return "(version 1)\n(deny default)\n(allow signal (target self))\n"


def apply_seatbelt() -> None:
    """Denies this process, on macOS, all that its sandbox knows. Raises OSError with its words."""
    libc, message = ctypes.CDLL(None), ctypes.c_char_p()
    # Flags of 0: the text is a profile, not the name of one.
    if libc.sandbox_init(seatbelt_profile().encode(), ctypes.c_uint64(0), ctypes.byref(message)):
        raise OSError(errno.EPERM, (message.value or b"sandbox_init failed").decode())


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    long = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    answer = int(libc.syscall(ctypes.c_long(number), *long))
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"system call {number}: {os.strerror(code)}")
    return answer
