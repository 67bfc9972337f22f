"""Semilayers, their ranking, the two phases, the trajectory. Pure numpy and protocols."""
