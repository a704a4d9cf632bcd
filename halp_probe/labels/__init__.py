"""A model's answer and the ground truth -> right, wrong or unknown, with the rule that said so."""
