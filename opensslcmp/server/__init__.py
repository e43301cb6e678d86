"""See design: server layer."""
