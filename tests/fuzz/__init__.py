"""Fuzzing of everything that reads bytes of another party. `make fuzz MINUTES=10`; the corpus is replayed by pytest."""
