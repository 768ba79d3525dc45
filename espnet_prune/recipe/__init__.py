"""What shell recipes need in Python; light, as the installer imports it with bare python3."""
