"""Commands on models: trainings, merges, and loops of both."""
