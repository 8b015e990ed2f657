"""Verifiers: plain functions from a completion to a verdict, run where they cannot hurt."""
