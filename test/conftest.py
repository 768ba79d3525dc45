"""What all tests share."""

from hypothesis import settings

# Other jobs on the machine make an example slow, not wrong
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")


def pytest_collection_modifyitems(items):
    """Files that run recipes go first: they take minutes, and a worker that gets one as the last
    file keeps the other one waiting."""
    recipes = {item.path for item in items if item.get_closest_marker("recipe")}
    items.sort(key=lambda item: item.path not in recipes)
