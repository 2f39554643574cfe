"""Detection: stored readings in, flags out, in a worker process of its own."""
