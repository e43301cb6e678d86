"""See design: context layer."""
