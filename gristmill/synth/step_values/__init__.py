"""Step values: what a step of a solution is worth, by rollouts from it."""
