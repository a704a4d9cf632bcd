"""Answering a task's items with a model in this process or a server, resumably."""
