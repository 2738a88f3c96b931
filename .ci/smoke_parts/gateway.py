"""Send a span to a gateway, and look for its event: the inbox and the port are given."""

import json
import sys
import urllib.request

span = {
    "traceId": "1" * 32,
    "spanId": "2" * 16,
    "name": "chat",
    "startTimeUnixNano": "1",
    "endTimeUnixNano": "2",
    "attributes": [
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
        {"key": "gen_ai.request.model", "value": {"stringValue": "gpt-5.1"}},
    ],
}
body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
address = f"http://127.0.0.1:{sys.argv[2]}/v1/traces"
request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
assert urllib.request.urlopen(request).read() == b"{}"
events = urllib.request.urlopen(sys.argv[1] + "/_events").read()
assert b"2222222222222222" in events, events
print("the installed wheel's gateway took a span")
