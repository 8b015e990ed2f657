"""Refusal-aware data: what a model knows, how questions are split by it, and what is taught from that.

It has more modules than most folders, since each data set of the literature is a small one of its own: probe
and split first, then data, pairs, ask, calibration, passages, introspection and controls on top of them.
"""
