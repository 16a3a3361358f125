"""Text in images: where it stands, and how it is painted over. Screening and intake both ask here."""
