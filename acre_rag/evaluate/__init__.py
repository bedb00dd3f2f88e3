"""Measures answers against every baseline: one frozen model, one prompt, one way of decoding."""
