"""The full size of train.py: the same constants with a GPU's values.

A search edits this file; the model and the training are train.py's.
"""

import os

os.environ.setdefault("BILEVEL_GPT_PROFILE", "cuda")

import train  # type: ignore[import-not-found]

# Model
ASPECT_RATIO = 64  # model width is DEPTH * ASPECT_RATIO, rounded up to a multiple of HEAD_DIM
HEAD_DIM = 128  # width of one attention head, even
WINDOW_PATTERN = "SSSL"  # by layer, repeated: S sees half the context, L all of it; the last is L

# Optimisation
TOTAL_BATCH_SIZE = 2**19  # tokens per optimizer step, a multiple of DEVICE_BATCH_SIZE * 2048
EMBEDDING_LR = 0.6  # token and value embeddings (Adam)
UNEMBEDDING_LR = 0.004  # output layer (Adam)
MATRIX_LR = 0.04  # matrices of attention and MLP (Muon)
SCALAR_LR = 0.5  # residual and skip weights of the layers (Adam)
WEIGHT_DECAY = 0.2  # cautious decay of the matrices, falls linearly to 0
ADAM_BETAS = (0.8, 0.95)  # Adam's beta1 and beta2
WARMUP_RATIO = 0.0  # share of the budget in which the learning rates rise from 0
WARMDOWN_RATIO = 0.5  # share of the budget in which they fall to FINAL_LR_FRAC
FINAL_LR_FRAC = 0.0  # learning rate at the end, as a share of its peak

# Size
DEPTH = 8  # layers
DEVICE_BATCH_SIZE = 128  # sequences per forward pass; lower it if memory runs out
SEED = 42  # weights and order of the data

if __name__ == "__main__":
    train.configure({name: globals()[name] for name in train.CONSTANTS})
    train.show(train.main())
