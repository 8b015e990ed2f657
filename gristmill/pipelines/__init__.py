"""Pipelines: sources, recipes, the runner and its run directory, exports, reports and the CLI."""
