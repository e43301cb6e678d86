"""See design: client layer."""
