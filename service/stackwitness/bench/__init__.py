"""Measure the service beside its peers on this machine, in one run; see bench/README.md."""
