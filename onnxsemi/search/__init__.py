"""Semilayers, their ranking, the two phases and the trajectory. Pure numpy and the measuring seam."""
