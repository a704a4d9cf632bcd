"""Kinds of questions: what an item asks, what a reply says, and whether that is right. Pure; no model, no files."""
