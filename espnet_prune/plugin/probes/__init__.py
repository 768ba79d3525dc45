"""Probes: what is trained on a frozen encoder, as plugins of ESPnet's tasks."""
