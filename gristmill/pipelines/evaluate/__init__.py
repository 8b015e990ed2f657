"""What an engine can do, and what a run's values are worth."""
