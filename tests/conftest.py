"""No test may reach beyond this machine by accident, or find a key in the environment."""

import os
import signal

from hypothesis import HealthCheck, settings

# Tests that a shell starts in the background find SIGINT ignored, as would all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

for name in [n for n in os.environ if n.endswith("_API_KEY")]:
    del os.environ[name]

# An example that took long says something of the machine only.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
