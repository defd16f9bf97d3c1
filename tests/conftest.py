"""What all tests have in common."""

from hypothesis import settings

# The same examples in every run: one that fails is a failure of the change that brought it, not of the next one.
settings.register_profile("steady", derandomize=True)
settings.load_profile("steady")
