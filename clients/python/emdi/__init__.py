"""The open format EMDI: what two parties must agree on byte for byte."""
