"""Δloss and KL of channels: the fast way, the exact way, how far to trust them."""
