"""Replay data sets through the station SDK over HTTP, honestly or forged before signing."""
