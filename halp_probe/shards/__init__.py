"""Shards: files of hidden states, answers and texts in HDF5, written, read and checked."""
