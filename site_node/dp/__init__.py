"""Differential privacy at a site: what was spent (ledger), how much that is (accountant), and what it buys."""
