"""
The tests of kiroworkers; their packages mirror those of kiroworkers.
"""

import sys

# The stand-ins for agents are modules of this package and start hundreds of times in a
# run: they must not spend time on imports that only tests need.
if "twisted.trial" in sys.modules:
    from hypothesis import HealthCheck, settings

    # Speed is measured in bench/: a slow machine must not fail a test.
    settings.register_profile(
        "kiroworkers",
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=True,
    )
    settings.load_profile("kiroworkers")
