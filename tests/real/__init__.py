"""Model folders whose settings are those of real checkpoints, made by the tests; widths and depths are small."""
