"""`python -m bilevel` is `bilevel`."""

from bilevel.cli.cli import main

main()
