"""Preference data that needs no further model call: pairs out of samples, and rows with a label each."""
