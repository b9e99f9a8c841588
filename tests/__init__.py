"""
The tests of kiroworkers; the folders mirror the package's rooms.
"""

from hypothesis import HealthCheck, settings

# Speed is measured in bench/: a slow machine must not fail a test.
settings.register_profile(
    "kiroworkers",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("kiroworkers")
