"""The road in: signed envelopes become evidence, readings and a pending leaf, in one transaction."""
