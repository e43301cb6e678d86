"""See design: cli layer."""
