"""Files that tasks read and write; no model."""
