"""What all tests share."""

from hypothesis import settings

# Other jobs on the machine make an example slow, not wrong
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
