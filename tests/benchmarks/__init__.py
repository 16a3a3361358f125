"""Benchmarks: long figures, run by name and never as tests. `make bench NAME=demo` writes build/bench/demo.json."""
