"""Expressions that fill in each frame, as a good author would write them."""

FILLED = {
    "let the proposer change one parameter only, which the rule chooses": {
        "when": "streak >= 4",
        "key": "tries[name]",
    },
    "close some parameters to the proposer for a while": {
        "when": "streak >= 4 and age[name] < 2",
    },
    "set one parameter by the rule itself, without the proposer": {
        "when": "streak >= 4",
        "key": "tries[name]",
        "step": "0.2 - 0.1 * streak",
    },
    "correct the value that the proposer gave a parameter": {
        "when": "abs(new - old) > 0.3",
        "share": "0.5",
    },
    "keep a trial that is not better, to go on from it": {"when": "lost < noise"},
    "start the next proposal from another trial, which the rule chooses": {
        "when": "streak >= 2",
        "key": "behind + noise * used",
    },
}  # by what the frame does, then by hole
