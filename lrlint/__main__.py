"""``python -m lrlint``."""

from lrlint.cli.main import main

main()
