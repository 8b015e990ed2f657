"""``python -m gristmill``: the command line."""

from gristmill.cli.main import main

main()
