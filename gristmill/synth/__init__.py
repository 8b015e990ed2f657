"""Row stages that make training data from a model's own samples."""
