"""The energy that one example costs on a processor: memory reads and writes, multiplications, sums."""
