"""Labels of a model's answers.

An answer and the ground truth -> right, wrong or unknown, with the rule that decided.
"""
