"""The insider suite: every manipulation done for real, and what finds it. `make test-insider` prints the table."""
