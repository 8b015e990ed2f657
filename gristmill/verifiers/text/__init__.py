"""Words and numbers in texts."""
