"""What both sides of Synthward agree on: words, documents, signatures, the wire. Imports neither half."""

__version__ = "0.1.0"
