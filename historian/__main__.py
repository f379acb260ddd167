"""`python -m historian`: the command."""

from historian.cli import main

main()
