"""Exports: what a regulator takes away, and anyone can verify offline."""
