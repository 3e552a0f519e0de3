"""``python -m lrlint``."""

from lrlint.cli import main

main()
