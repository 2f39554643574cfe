"""A witness: cosign each log's checkpoints only forward, one history per log (c2sp.org/tlog-witness)."""
