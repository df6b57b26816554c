"""Training: roles in a net, optimizers, the stacked and the plain step, and the course of a trial."""
