"""What tasks read and write; no model."""
