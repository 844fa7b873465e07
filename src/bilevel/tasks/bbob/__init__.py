"""The 24 noiseless functions of BBOB as tasks: `tasks.bbob_task("bbob-f1-d5")`.

They need the package `ioh` (the extra `bbob`), which only `functions` imports.
"""
