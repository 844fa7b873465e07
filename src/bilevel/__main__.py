"""`python -m bilevel` is `bilevel`."""

from bilevel.cli import main

main()
