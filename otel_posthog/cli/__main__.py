"""`python -m otel_posthog.cli`."""

import sys

from otel_posthog.cli.commands import main

sys.exit(main())
