"""Tree search over solutions, with the tree as a record."""
