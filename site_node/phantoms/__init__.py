"""Procedural scenes with masks, of nobody: the demo's data, and a public prior for later generators."""
