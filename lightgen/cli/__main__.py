"""`python -m lightgen.cli`."""

from lightgen.cli import main

main()
