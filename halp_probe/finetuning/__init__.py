"""Training of fused VLMs: from data sets to a trained model and its evaluation."""
