"""The Stackwitness server."""
