"""The transparency log: events, sequencer, publisher, signer, reader and checker."""
