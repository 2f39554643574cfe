"""Reviews: what inspectors decide about flags, and why. Nothing is deleted; the latest counts."""
