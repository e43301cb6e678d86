"""The words a person types: each command parses, calls one method of the layers below, and prints.

Results go to stdout, talk to stderr; ``exits`` is the table of exit codes. Needs typer and rich.
"""
