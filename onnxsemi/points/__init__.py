"""What a run keeps of the frontier: every point that could be written instead of the chosen one."""
