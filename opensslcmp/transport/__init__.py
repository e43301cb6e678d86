"""See design: transport layer."""
