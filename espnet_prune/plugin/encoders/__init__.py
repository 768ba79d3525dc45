"""ESPnet encoders."""
