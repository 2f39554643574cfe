"""Flags: implausible intervals with their reasons, each a row and a logged event."""
