"""Run the command line: `python -m stackwitness.cli`."""

from stackwitness.cli import main

main()
