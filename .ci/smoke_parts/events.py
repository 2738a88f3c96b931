"""Check the events of one call in the inbox whose address is given."""

import collections
import json
import sys
import urllib.request

lines = urllib.request.urlopen(sys.argv[1] + "/_events").read().splitlines()
events = [json.loads(line) for line in lines]
names = collections.Counter(event["event"] for event in events)
assert names == {"$ai_generation": 1, "llm_completion_requested": 1, "llm_completion_success": 1}, names
for event in events:
    assert event["distinct_id"] == "user_42", event
    assert event["properties"]["feature"] == "smoke", event
[generation] = [event["properties"] for event in events if event["event"] == "$ai_generation"]
for wanted in ("$ai_input_tokens", "$ai_output_tokens", "$ai_total_cost_usd", "$ai_time_to_first_token"):
    assert generation.get(wanted), (wanted, generation)
print("the installed wheel sent:", dict(names))
