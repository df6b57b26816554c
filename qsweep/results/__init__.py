"""Results of trials: the store, the tables, and summaries computed from them."""
