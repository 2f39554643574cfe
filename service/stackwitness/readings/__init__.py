"""Readings, looked up: ranges, channels, aggregates, pages."""
