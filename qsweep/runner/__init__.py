"""Running sweeps: what is to be done, on which workers, and in what order."""
