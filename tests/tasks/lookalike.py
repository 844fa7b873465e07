"""Training scripts in the shapes that users bring."""

# The shape of Karpathy's train.py: constants, a progress bar without newlines, a summary.
AUTORESEARCH = '''\
"""Autoresearch-like pretraining — one file, one GPU."""

import random
import sys

# ---------------------------------------------------------------------------
# Hyperparameters (edit these directly, no CLI flags needed)
# ---------------------------------------------------------------------------

# Model architecture
ASPECT_RATIO = 64       # model_dim = depth * ASPECT_RATIO
HEAD_DIM = 128          # target head dimension for attention
WINDOW_PATTERN = "SSSL" # sliding window pattern: L=full, S=half context

# Optimization
TOTAL_BATCH_SIZE = 2**19 # ~524K tokens per optimizer step
EMBEDDING_LR = 0.6      # learning rate for token embeddings (Adam)
MATRIX_LR = 0.04        # learning rate for matrix parameters (Muon)
WEIGHT_DECAY = 0.2      # cautious weight decay for Muon
ADAM_BETAS = (0.8, 0.95) # Adam beta1, beta2
WARMUP_RATIO = 0.0      # fraction of time budget for LR warmup
FINAL_LR_FRAC = 0.0     # final LR as fraction of initial

# Model size
DEPTH = 8               # number of transformer layers
DEVICE_BATCH_SIZE = 128 # per-device batch size (reduce if OOM)
SEED = 42

random.seed(SEED)
assert TOTAL_BATCH_SIZE % (DEVICE_BATCH_SIZE * 2048) == 0
for step in range(3):
    print(f"\\rstep {step:05d} | loss: {4 - step:.6f} | val_bpb: 0.1", end="", flush=True)
    if MATRIX_LR > 0.3:
        print("FAIL")
        sys.exit(1)
print()
val_bpb = 1 + abs(MATRIX_LR - 0.05) + WEIGHT_DECAY / 100 + random.random() / 1000
print("---")
print(f"val_bpb:          {val_bpb:.6f}")
print(f"training_seconds: {300.1:.1f}")
print(f"peak_vram_mb:     {45060.2:.1f}")
print(f"num_steps:        {953}")
print(f"depth:            {DEPTH}")
'''

SMALL = """\
LR = 0.1  # learning rate
STEPS_PER_UPDATE = 4
print("---")
print(f"val_loss: {(LR - 0.3) ** 2}")
"""

SMALL_TOML = """\
[task]
name = "small"
goal = "Find the learning rate."
metric = "val_loss"

[script]
file = "train.py"
timeout = 30

[params.LR]
low = 0.001
high = 1
log = true
"""
