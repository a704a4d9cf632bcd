"""Page of `halp-probe app`: ask a VLM about a picture, and see its risk of being wrong first."""
