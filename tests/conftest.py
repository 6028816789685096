"""What holds for every test."""

from hypothesis import settings

# Tests say what is right, never how fast: on a busy machine any example may take long.
settings.register_profile("tapeline", deadline=None)
settings.load_profile("tapeline")
