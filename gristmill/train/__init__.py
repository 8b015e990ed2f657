"""Training scripts, thin ones on TRL and Transformers, that close the loop; weights in and out."""
