"""Whole plans: run, and compared with the float model."""
