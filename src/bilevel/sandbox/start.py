"""Runs a program from its bytecode where there is some: Python would compile a script each time.

Run by its path with the program's arguments, the last of them the program's path. Garbage is not
collected until the program turns that on: what it loads first stays.
"""

import gc
import sys
from importlib.machinery import SourceFileLoader

gc.disable()
code = SourceFileLoader("__main__", sys.argv.pop()).get_code("__main__")
assert code is not None
exec(code)
