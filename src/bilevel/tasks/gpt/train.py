"""Pretrain a byte-level GPT on a fixed budget and print its validation bits per byte.

The architecture and the names of the constants follow Karpathy's autoresearch `train.py`; the code
is written anew. Two profiles, chosen by the environment variable BILEVEL_GPT_PROFILE:

cpu   (default) a benchmark of seconds on one core. Its budget is *simulated*: a step costs what an
      invented machine would take (see `Machine`), so that the same constants and seed give the same
      val_bpb to the last bit, whatever else the computer is doing.
cuda  a real run: bf16, torch.compile, a wall-clock budget. Its sizes are in task_cuda.toml.

BILEVEL_GPT_TEXT     a file to train on, instead of Python's standard library
BILEVEL_GPT_SECONDS  the budget in seconds, simulated or real
BILEVEL_GPT_DEVICE, BILEVEL_GPT_COMPILE (0 or 1)   for trying the cuda profile without a GPU
"""

from __future__ import annotations

import gc
import hashlib
import math
import os
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

PROFILE = os.environ.get("BILEVEL_GPT_PROFILE", "cpu")
if PROFILE == "cpu":
    # Other instruction sets and thread counts round differently; both libraries read these once,
    # while they are being imported.
    os.environ.update(
        MKL_CBWR="AVX2,STRICT",
        ATEN_CPU_CAPABILITY="avx2",
        ONEDNN_MAX_CPU_ISA="AVX2",
        OMP_NUM_THREADS="1",
        MKL_NUM_THREADS="1",
    )

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

# What a search may change.

# Model
ASPECT_RATIO = 16  # model width is DEPTH * ASPECT_RATIO, rounded up to a multiple of HEAD_DIM
HEAD_DIM = 32  # width of one attention head, even
WINDOW_PATTERN = "SSSL"  # by layer, repeated: S sees half the context, L all of it; the last is L

# Optimisation
TOTAL_BATCH_SIZE = 2**13  # tokens per optimizer step, a multiple of DEVICE_BATCH_SIZE * seq_len
EMBEDDING_LR = 0.3  # token and value embeddings (Adam)
UNEMBEDDING_LR = 0.015  # output layer (Adam)
MATRIX_LR = 0.08  # matrices of attention and MLP (Muon)
SCALAR_LR = 0.05  # residual and skip weights of the layers (Adam)
WEIGHT_DECAY = 0.2  # cautious decay of the matrices, falls linearly to 0
ADAM_BETAS = (0.8, 0.95)  # Adam's beta1 and beta2
WARMUP_RATIO = 0.0  # share of the budget in which the learning rates rise from 0
WARMDOWN_RATIO = 0.3  # share of the budget in which they fall to FINAL_LR_FRAC
FINAL_LR_FRAC = 0.0  # learning rate at the end, as a share of its peak

# Size
DEPTH = 2  # layers
DEVICE_BATCH_SIZE = 16  # sequences per forward pass; lower it if memory runs out
SEED = 42  # weights and order of the data

CONSTANTS = {name for name in globals() if name.isupper()} - {"F", "PROFILE"}


def configure(values: dict[str, object]) -> None:
    """Give constants other values, when this file is imported. KeyError if one is unknown."""
    if unknown := values.keys() - CONSTANTS:
        raise KeyError(f"{min(unknown)} is no constant of train.py")
    globals().update(values)


@dataclass(frozen=True)
class Machine:
    """What the simulated budget charges: seconds, except where said.

    step: optimizer and data of a step. micro: each forward-backward pass. layer: each layer in it.
    rate: FLOPs per second. memory: bytes. The values were chosen, not measured; README.md says why.
    """

    step: float = 0.5
    micro: float = 0.003
    layer: float = 0.0015
    rate: float = 3.5e8
    memory: float = 64e6


@dataclass(frozen=True)
class Profile:
    """What a search may not change.

    budget in seconds; free_steps at the start are not charged (compilation); machine is None where
    the budget is wall-clock; modules None means all of the standard library's.
    """

    device: str
    budget: float
    seq_len: int
    eval_tokens: int
    eval_rows: int
    machine: Machine | None
    dtype: torch.dtype
    compile: bool
    free_steps: int
    modules: tuple[str, ...] | None


# Pure ASCII modules that Python 3.11 to 3.14 all have.
MODULES = (
    "argparse", "ast", "bdb", "calendar", "cmd", "codecs", "configparser", "contextlib", "csv",
    "datetime", "decimal", "difflib", "dis", "doctest", "enum", "gettext", "glob", "gzip",
    "imaplib", "inspect", "ipaddress", "locale", "mailbox", "optparse", "os", "pdb", "pickle",
    "pickletools", "pkgutil", "platform", "plistlib", "posixpath", "pprint", "pydoc", "queue",
    "random", "sched", "selectors", "shelve", "shutil", "smtplib", "socket", "socketserver",
    "ssl", "string", "subprocess", "tarfile", "tempfile", "textwrap", "threading", "timeit",
    "tokenize", "trace", "traceback", "typing", "uuid", "warnings", "wave", "weakref",
)  # fmt: skip

PROFILES = {
    "cpu": Profile(
        device="cpu", budget=300.0, seq_len=64, eval_tokens=2**16, eval_rows=64, machine=Machine(),
        dtype=torch.float32, compile=False, free_steps=0, modules=MODULES,
    ),
    "cuda": Profile(
        device="cuda", budget=300.0, seq_len=2048, eval_tokens=20 * 2**19, eval_rows=64,
        machine=None, dtype=torch.bfloat16, compile=True, free_steps=10, modules=None,
    ),
}  # fmt: skip

BLOCK = 1 << 14
LOSS_LIMIT = float(12)  # nats per byte; a uniform guess over 256 bytes is 5.5


def profile() -> Profile:
    """The chosen profile, with the environment's changes."""
    if PROFILE not in PROFILES:
        raise SystemExit(f"BILEVEL_GPT_PROFILE is {PROFILE!r} but must be cpu or cuda")
    chosen, env = PROFILES[PROFILE], os.environ
    device = env.get("BILEVEL_GPT_DEVICE", chosen.device)
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("the profile is cuda but torch finds no GPU; use the task on the CPU")
    return replace(
        chosen,
        budget=float(env.get("BILEVEL_GPT_SECONDS", chosen.budget)),
        device=device,
        compile=env.get("BILEVEL_GPT_COMPILE", str(int(chosen.compile))) == "1",
    )


# Data


def corpus(modules: tuple[str, ...] | None) -> bytes:
    """The text: the file BILEVEL_GPT_TEXT, or modules of the running Python's standard library."""
    if file := os.environ.get("BILEVEL_GPT_TEXT"):
        return Path(file).read_bytes()
    library = Path(sysconfig.get_path("stdlib"))
    if modules is not None:
        files = [library / f"{name}.py" for name in modules]
        return b"".join(f.read_bytes() for f in files)
    skip = {"site-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__"}
    files = [f for f in sorted(library.rglob("*.py")) if not skip & set(f.parts)]
    return b"".join(f.read_bytes() for f in files)


class Data:
    """Rows of `seq_len + 1` tokens; a token is one of the bytes that occur in the text.

    Every 20th block of 16 KiB is held out; its rows are thinned evenly to `eval_tokens`.
    """

    def __init__(self, text: bytes, p: Profile) -> None:
        self.sha = hashlib.sha256(text).hexdigest()[:12]
        raw = np.frombuffer(text, np.uint8)
        occurs = np.bincount(raw, minlength=256) > 0
        tokens = (np.cumsum(occurs) - 1).astype(np.uint8)[raw]
        held_out = np.arange(len(raw)) // BLOCK % 20 == 19
        self.vocab = int(occurs.sum())
        self.train = self._rows(tokens[~held_out], p.seq_len)
        rows = self._rows(tokens[held_out], p.seq_len)
        keep = min(len(rows), p.eval_tokens // p.seq_len)
        self.val = rows[torch.arange(keep) * len(rows) // keep]

    @staticmethod
    def _rows(tokens: np.ndarray, seq_len: int) -> Tensor:
        if len(tokens) <= seq_len:
            raise ValueError("the text is too short: give one of at least 1 MB")
        return torch.from_numpy(tokens).unfold(0, seq_len + 1, seq_len)

    def batches(self, rows: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Batches of `rows` training rows without end, reshuffled when all have been seen."""
        order = torch.empty(0, dtype=torch.long)
        while True:
            while len(order) < rows:
                order = torch.cat([order, torch.randperm(len(self.train), generator=generator)])
            yield self.train[order[:rows]]
            order = order[rows:]


# Model

Gated = tuple[Tensor, Tensor]  # value embeddings, weights of their gate
Loss = Callable[[Tensor, Tensor], Tensor]


def norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.size(-1),))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of (batch, head, time, head_dim); Su et al. 2021, halves paired."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1)


def model_dim() -> int:
    """Width: DEPTH * ASPECT_RATIO rounded up to whole heads."""
    assert DEPTH >= 1, f"DEPTH is {DEPTH} but must be at least 1"
    assert HEAD_DIM >= 2, f"HEAD_DIM is {HEAD_DIM} but must be at least 2"
    assert HEAD_DIM % 2 == 0, f"HEAD_DIM is {HEAD_DIM} but must be even"
    assert ASPECT_RATIO >= 1, f"ASPECT_RATIO is {ASPECT_RATIO} but must be at least 1"
    return -(-DEPTH * ASPECT_RATIO // HEAD_DIM) * HEAD_DIM


def windows(seq_len: int) -> list[int]:
    """Tokens that each layer's attention sees."""
    pattern = WINDOW_PATTERN.upper()
    assert pattern, "WINDOW_PATTERN is empty; give letters S and L"
    assert not set(pattern) - set("SL"), f"WINDOW_PATTERN is {pattern!r}: only S and L are known"
    size = {"S": seq_len // 2, "L": seq_len}
    return [size[pattern[i % len(pattern)]] for i in range(DEPTH - 1)] + [seq_len]


class GPT(nn.Module):
    """Pre-norm transformer. Equal matrices of all layers are one tensor, for Muon to batch."""

    def __init__(self, vocab: int, seq_len: int) -> None:
        super().__init__()
        self.dim, self.heads = model_dim(), model_dim() // HEAD_DIM
        self.windows, self.seq_len = windows(seq_len), seq_len
        # Every other layer has value embeddings, the last one always.
        self.valued = [i % 2 == (DEPTH - 1) % 2 for i in range(DEPTH)]
        self.gate_in = min(32, self.dim)
        d, with_value = self.dim, sum(self.valued)
        self.embed = nn.Parameter(torch.empty(vocab, d))
        self.unembed = nn.Parameter(torch.empty(vocab, d))
        self.values = nn.Parameter(torch.empty(with_value, vocab, d))
        self.qkv = nn.Parameter(torch.empty(DEPTH, 3, d, d))
        self.mix = nn.Parameter(torch.empty(DEPTH, d, d))
        self.mlp_in = nn.Parameter(torch.empty(DEPTH, 4 * d, d))
        self.mlp_out = nn.Parameter(torch.empty(DEPTH, d, 4 * d))
        self.gates = nn.Parameter(torch.empty(with_value, self.heads, self.gate_in))
        self.resid = nn.Parameter(torch.empty(DEPTH))
        self.skip = nn.Parameter(torch.empty(DEPTH))
        for name in ("cos", "sin", "local"):
            self.register_buffer(name, None, persistent=False)

    @torch.no_grad()
    def initialise(self, device: str, generator: torch.Generator) -> None:
        """Fresh weights from a CPU generator, so that they are the same on every device."""
        self.to_empty(device="cpu")
        self.embed.normal_(0, 1, generator=generator)
        self.unembed.normal_(0, 0.001, generator=generator)
        bound = math.sqrt(3 / self.dim)
        for weight in (self.values, self.qkv, self.mlp_in):
            weight.uniform_(-bound, bound, generator=generator)
        for weight in (self.mix, self.mlp_out, self.gates):
            weight.zero_()
        self.resid.fill_(1.0)
        self.skip.fill_(0.1)
        time_axis = torch.arange(self.seq_len)
        freq = 10000.0 ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        angle = time_axis[:, None] * freq
        self.cos, self.sin = angle.cos(), angle.sin()
        back = time_axis[:, None] - time_axis
        self.local = (back >= 0) & (back < self.seq_len // 2)
        self.to(device)

    def forward(self, tokens: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """Mean cross-entropy of `targets`, in nats."""
        x = norm(F.embedding(tokens, self.embed).to(dtype))
        first, at = x, 0
        layers = zip(self.qkv.unbind(), self.mix.unbind(), self.mlp_in.unbind(),
                     self.mlp_out.unbind(), strict=True)  # fmt: skip
        resid, skip = self.resid.unbind(), self.skip.unbind()
        values, gates = self.values.unbind(), self.gates.unbind()
        for i, (qkv, mix, mlp_in, mlp_out) in enumerate(layers):
            x = resid[i] * x + skip[i] * first
            extra = None
            if self.valued[i]:
                extra = (F.embedding(tokens, values[at]).to(dtype), gates[at])
                at += 1
            x = x + F.linear(self.attend(norm(x), qkv, extra, self.windows[i]), mix)
            x = x + F.linear(F.relu(F.linear(norm(x), mlp_in)).square(), mlp_out)
        logits = F.linear(norm(x), self.unembed).float()
        logits = 15 * torch.tanh(logits / 15)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def attend(self, x: Tensor, weight: Tensor, extra: Gated | None, window: int) -> Tensor:
        """Causal attention over the last `window` tokens, queries and keys normalised."""
        b, t, d = x.shape
        q, k, v = F.linear(x, weight.flatten(0, 1)).view(b, t, 3, self.heads, HEAD_DIM).unbind(2)
        if extra is not None:
            embedded, gate = extra
            strength = 2 * torch.sigmoid(F.linear(x[..., : self.gate_in], gate))
            v = v + strength[..., None] * embedded.view(b, t, self.heads, HEAD_DIM)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        q = norm(rotate(q, self.cos, self.sin)).to(v.dtype)
        k = norm(rotate(k, self.cos, self.sin)).to(v.dtype)
        whole = window >= self.seq_len
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=None if whole else self.local, is_causal=whole
        )
        return y.transpose(1, 2).reshape(b, t, d)

    def flops_per_token(self) -> float:
        """Forward and backward, 6 per weight that is multiplied; attention by its window."""
        weights = sum(w.numel() for w in (self.qkv, self.mix, self.mlp_in, self.mlp_out))
        return 6.0 * (weights + self.unembed.numel()) + 12.0 * self.dim * sum(self.windows)


# Optimizers

# Amsel, Persson, Musco and Gower 2025 (Polar Express), 5 steps.
POLAR = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def orthogonalise(g: Tensor) -> Tensor:
    """The nearest matrix with singular values about 1, for a batch of matrices."""
    g = g.bfloat16() if g.is_cuda else g
    x = g / (g.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    for a, b, c in POLAR:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Adam:
    """Kingma and Ba 2015, for one tensor."""

    def __init__(self, param: Tensor, lr: float, betas: tuple[float, float]) -> None:
        self.param, self.lr, self.betas, self.steps = param, lr, betas, 0
        self.mean, self.square = torch.zeros_like(param), torch.zeros_like(param)

    def step(self, lr_scale: float, momentum: float, decay: float) -> None:
        (b1, b2), grad = self.betas, self.param.grad
        self.steps += 1
        self.mean.lerp_(grad, 1 - b1)
        self.square.lerp_(grad.square(), 1 - b2)
        root = (self.square / (1 - b2**self.steps)).sqrt_().add_(1e-10)
        self.param.addcdiv_(self.mean, root, value=-self.lr * lr_scale / (1 - b1**self.steps))


class Muon:
    """Jordan et al. 2024 with Nesterov momentum, for a batch of matrices.

    Each row of the update is scaled to its running mean square (NorMuon, Li et al. 2025); decay
    acts only where it agrees with the update (cautious, Liang et al. 2024).
    """

    def __init__(
        self, param: Tensor, lr: float, orthogonaliser: Callable[[Tensor], Tensor]
    ) -> None:
        self.param, self.orthogonaliser = param, orthogonaliser
        self.lr = lr * math.sqrt(max(1.0, param.size(-2) / param.size(-1)))
        self.mean = torch.zeros_like(param)
        self.square = torch.zeros_like(param[..., :1])

    def step(self, lr_scale: float, momentum: float, decay: float) -> None:
        grad = self.param.grad
        self.mean.lerp_(grad, 1 - momentum)
        update = self.orthogonaliser(grad.lerp(self.mean, momentum)).to(self.param.dtype)
        size = update.norm(dim=(-2, -1), keepdim=True)
        self.square.lerp_(update.square().mean(-1, keepdim=True), 0.05)
        update = update * self.square.clamp_min(1e-10).rsqrt()
        update = update * (size / update.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-10))
        lr = self.lr * lr_scale
        if decay:
            update = update + decay * self.param * (update * self.param > 0)
        self.param.sub_(update, alpha=lr)


def optimizers(model: GPT, compiled: bool) -> list[Adam | Muon]:
    """One per tensor. Adam's rates are given for width 768 and grow as 1/sqrt(width)."""
    wide = (model.dim / 768) ** -0.5
    beta1, beta2 = ADAM_BETAS
    assert 0 <= beta1 < 1, f"ADAM_BETAS are {ADAM_BETAS} but each must be in [0, 1)"
    assert 0 <= beta2 < 1, f"ADAM_BETAS are {ADAM_BETAS} but each must be in [0, 1)"
    polar = torch.compile(orthogonalise, dynamic=False) if compiled else orthogonalise
    return [
        Adam(model.embed, EMBEDDING_LR * wide, ADAM_BETAS),
        Adam(model.values, EMBEDDING_LR * wide, ADAM_BETAS),
        Adam(model.unembed, UNEMBEDDING_LR * wide, ADAM_BETAS),
        Adam(model.resid, SCALAR_LR * 0.01, ADAM_BETAS),
        Adam(model.skip, SCALAR_LR, (0.96, 0.95)),
        *(
            Muon(weight, MATRIX_LR, polar)
            for weight in (model.qkv, model.mix, model.mlp_in, model.mlp_out, model.gates)
        ),
    ]


def lr_scale(progress: float) -> float:
    """Share of the peak learning rate at `progress` (0 to 1) of the budget."""
    if progress < WARMUP_RATIO:
        return progress / WARMUP_RATIO
    if progress <= 1 - WARMDOWN_RATIO:
        return 1.0
    left = (1 - progress) / WARMDOWN_RATIO
    return left + (1 - left) * FINAL_LR_FRAC


# Budget


class Budget:
    """Seconds spent, charged by the simulated machine or read from the clock."""

    def __init__(self, p: Profile, model: GPT, micros: int) -> None:
        self.p, self.spent, self.steps, self.began = p, 0.0, 0, 0.0
        if m := p.machine:
            compute = TOTAL_BATCH_SIZE * model.flops_per_token() / m.rate
            self.cost = m.step + micros * (m.micro + DEPTH * m.layer) + compute

    @property
    def progress(self) -> float:
        return min(self.spent / self.p.budget, 1.0)

    def start(self) -> None:
        self.began = self._now()

    def stop(self) -> None:
        """Charge the step that began with `start`."""
        if self.steps >= self.p.free_steps:
            self.spent += self.cost if self.p.machine else self._now() - self.began
        self.steps += 1

    def _now(self) -> float:
        if self.p.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def memory_mb(model: GPT, p: Profile) -> float:
    """Peak memory: measured on a GPU, else estimated (weights, gradients, moments, activations)."""
    if p.device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    weights = sum(w.numel() for w in model.parameters())
    per_token = DEPTH * (34 * model.dim + 2 * model.heads * p.seq_len) + 4 * len(model.embed)
    return (16.0 * weights + 4.0 * DEVICE_BATCH_SIZE * p.seq_len * per_token) / 2**20


# Training


def fail(why: str) -> NoReturn:
    """End as a failed run: FAIL on a line of its own, exit status 1."""
    print("\nFAIL", flush=True)
    raise SystemExit(why)


def micro_batches(p: Profile) -> int:
    """Forward-backward passes of a step."""
    tokens = DEVICE_BATCH_SIZE * p.seq_len
    assert tokens > 0, f"DEVICE_BATCH_SIZE is {DEVICE_BATCH_SIZE} but must be at least 1"
    assert TOTAL_BATCH_SIZE > 0, f"TOTAL_BATCH_SIZE is {TOTAL_BATCH_SIZE} but must be positive"
    assert TOTAL_BATCH_SIZE % tokens == 0, (
        f"TOTAL_BATCH_SIZE is {TOTAL_BATCH_SIZE} but must be a multiple of "
        f"DEVICE_BATCH_SIZE * {p.seq_len} = {tokens}"
    )
    return TOTAL_BATCH_SIZE // tokens


def train(model: GPT, loss_of: Loss, data: Data, p: Profile, generator: torch.Generator) -> Budget:
    """Train until the budget is spent; exits with FAIL when the loss explodes."""
    micros = micro_batches(p)
    budget = Budget(p, model, micros)
    steppers = optimizers(model, p.compile)
    batches = data.batches(TOTAL_BATCH_SIZE // p.seq_len, generator)
    while budget.spent < p.budget:
        budget.start()
        total = torch.zeros((), device=p.device)
        for rows in next(batches).to(p.device).long().chunk(micros):
            loss = loss_of(rows[:, :-1], rows[:, 1:])
            (loss / micros).backward()
            total += loss.detach() / micros
        with torch.no_grad():
            momentum = 0.85 + 0.1 * min(budget.steps / 300, 1.0)
            decay = WEIGHT_DECAY * (1 - budget.progress)
            for stepper in steppers:
                stepper.step(lr_scale(budget.progress), momentum, decay)
        model.zero_grad(set_to_none=True)
        nats = float(total)
        if not nats <= LOSS_LIMIT:
            fail(f"the loss is {nats} at step {budget.steps}: lower the learning rates")
        budget.stop()
        print(f"\rstep {budget.steps} ({100 * budget.progress:.0f}%) loss {nats:.4f}",
              end="   ", flush=True)  # fmt: skip
        if budget.steps == 1:
            gc.collect()
            gc.freeze()  # the collector's pauses would be charged to the wall-clock budget
    print()
    return budget


@torch.no_grad()
def bits_per_byte(loss_of: Loss, data: Data, p: Profile) -> float:
    """Mean bits per held-out byte, in batches of a fixed size."""
    nats = 0.0
    for rows in data.val.split(p.eval_rows):
        rows = rows.to(p.device).long()
        nats += float(loss_of(rows[:, :-1], rows[:, 1:])) * len(rows)
    return nats / len(data.val) / math.log(2)


def build(p: Profile, vocab: int) -> GPT:
    """The model, without memory; raises MemoryError when the simulated machine has too little."""
    with torch.device("meta"):
        model = GPT(vocab, p.seq_len)
    if p.machine and memory_mb(model, p) * 2**20 > p.machine.memory:
        raise MemoryError(
            f"out of memory: {memory_mb(model, p):.0f} MiB needed, the simulated machine has "
            f"{p.machine.memory / 2**20:.0f} MiB; lower DEVICE_BATCH_SIZE or the model's size"
        )
    return model


def main() -> dict[str, float | str]:
    """The summary that is printed after `---`."""
    began, cpu = time.perf_counter(), time.process_time()
    p = profile()
    micro_batches(p)
    if PROFILE == "cpu":
        torch.set_num_threads(1)
    data = Data(corpus(p.modules), p)
    model = build(p, data.vocab)
    generator = torch.Generator().manual_seed(SEED)
    model.initialise(p.device, generator)
    forward = torch.compile(model, dynamic=False) if p.compile else model
    mixed = torch.autocast(p.device, p.dtype, enabled=p.dtype != torch.float32)

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        with mixed:
            return forward(x, y, p.dtype)

    budget = train(model, loss_of, data, p, generator)
    val_bpb = bits_per_byte(loss_of, data, p)
    if not math.isfinite(val_bpb):
        fail(f"val_bpb is {val_bpb}: lower the learning rates")
    return {
        "val_bpb": val_bpb,
        "training_seconds": budget.spent,
        "total_seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "peak_vram_mb": memory_mb(model, p),
        "total_tokens_M": budget.steps * TOTAL_BATCH_SIZE / 1e6,
        "num_steps": budget.steps,
        "num_params_M": sum(w.numel() for w in model.parameters()) / 1e6,
        "depth": DEPTH,
        "profile": PROFILE,
        "corpus_sha": f"sha256:{data.sha}",
    }


def show(summary: dict[str, float | str]) -> None:
    """Print the summary, one `name: value` a line."""
    print("---")
    for name, value in summary.items():
        text = f"{value:.6f}" if isinstance(value, float) else str(value)
        print(f"{name + ':':<18}{text}")


if __name__ == "__main__":
    show(main())
