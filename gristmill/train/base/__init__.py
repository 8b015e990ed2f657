"""What all kinds of training share: options, rows, models, and the way from a start to a saved model."""
