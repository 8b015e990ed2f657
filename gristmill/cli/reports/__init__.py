"""Commands that say what runs and rows are like."""
