"""Pictures drawn as SVG text on the server: pure functions from numbers to markup."""
