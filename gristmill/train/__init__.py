"""Training scripts, thin ones on TRL and Transformers, that close the loop (from the refusal work on)."""
