"""Records, verdicts, errors, the protocols of engines, verifiers and stages, and the registry."""
