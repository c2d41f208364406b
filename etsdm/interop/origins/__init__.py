"""Readers of other programs' checkpoints, one file an origin."""
