"""See design: asn1 layer."""
