"""What runs outside the server: station SDK, spool, pusher, simulator, verifier."""
