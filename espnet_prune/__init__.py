"""Structured pruning of self-supervised and Whisper speech encoders, as an ESPnet2 plugin."""

__version__ = "0.1.0"
