"""What shell recipes need in Python (kept light: the installer imports parts of it with bare python3)."""
