"""Codes that change a layer's output least: ranges, error-compensating rounding, refinement."""
