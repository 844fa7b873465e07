"""Tasks: what can be optimised. A training script, or a Python function.

`loading.load_task` turns a path into a task; `script` and `function` hold the two kinds.
"""
