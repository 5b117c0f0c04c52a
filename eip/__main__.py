"""``python -m eip``: the command ``eip``."""

from eip.cli import main

main()
