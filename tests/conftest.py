"""What holds for every test."""

import hypothesis

# Time limits are for benchmarks; a test must not fail because the machine was busy.
hypothesis.settings.register_profile("byok", deadline=None)
hypothesis.settings.load_profile("byok")
