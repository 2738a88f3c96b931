"""An inbox and the fake providers; their addresses on one line, until standard input ends."""

import sys

from otel_posthog.demo.fake_providers import FakeProviders
from otel_posthog.local import Inbox

with Inbox() as inbox, FakeProviders(latency=0) as providers:
    print(inbox.url, providers.openai_base_url, flush=True)
    sys.stdin.read()
