"""Stations, their channels and their keys: every act is an event on the station's own subject."""
