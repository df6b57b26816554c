"""What trials gave: the store, the tables, and what is computed from them."""
