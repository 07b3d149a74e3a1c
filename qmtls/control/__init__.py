"""The control directory, compiled to one frozen Settings with file and line for each value."""
