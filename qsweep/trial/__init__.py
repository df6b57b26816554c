"""One trial: its parameters, their checks, what follows from them, and its key."""
