"""Running sweeps: planning, scheduling and workers."""
