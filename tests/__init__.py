"""
The tests of kiroworkers; their packages mirror those of kiroworkers.
"""

import os
import sys

#: Whether to try every variant of what takes long: each transport, and more requests.
LONG = "KIROWORKERS_LONG" in os.environ

# The stand-ins for agents are modules of this package and start hundreds of times in a
# run: they must not spend time on imports that only tests need.
if "twisted.trial" in sys.modules:
    from hypothesis import HealthCheck, settings
    from twisted.trial import util

    # Seconds until a test counts as hung.  On a busy machine one can take ten times its time.
    util.DEFAULT_TIMEOUT_DURATION = 300.0
    # An unchanged tree passes or fails each time alike; the long run draws new examples.
    # Speed is measured in bench/: a slow machine must not fail a test.
    settings.register_profile(
        "kiroworkers",
        max_examples=int(os.environ.get("KIROWORKERS_EXAMPLES", "30")),
        deadline=None,
        derandomize=not LONG,
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=True,
    )
    settings.load_profile("kiroworkers")
