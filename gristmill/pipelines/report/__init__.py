"""What rows are like before they are trained on: ``gristmill report``."""
