"""See design: testing layer."""
