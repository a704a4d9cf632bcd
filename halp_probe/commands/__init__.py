"""Commands of `halp-probe`: one module a command, with its flags and what it prints."""
