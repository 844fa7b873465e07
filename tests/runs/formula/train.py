"""A stand-in for a training script: its loss is a formula, and one pattern crashes it."""

LEARNING_RATE = 0.5  # step size
BATCH_SIZE = 2**10  # samples a step
SCHEDULE = "cosine"  # how the step size falls
SEED = 1

if SCHEDULE == "linear" and LEARNING_RATE > 0.8:
    raise FloatingPointError("the loss is not finite")
print("---")
noise = SEED % 7 / 1000
print(f"val_loss: {abs(LEARNING_RATE - 0.2) + BATCH_SIZE / 2**12 + noise:.6f}")
