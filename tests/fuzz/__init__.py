"""Inputs that are nearly right, for everything that reads what others wrote: ``python -m tests.fuzz TARGET|all --seconds N``."""
