"""Weights -> codes, scales and fake-quantized weights. Pure numpy."""
