"""Refusal-aware data: what a model knows, how questions are split by it, and what is taught from that."""
