"""A run shown: in a terminal, and as a page."""
