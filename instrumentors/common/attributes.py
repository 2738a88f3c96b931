"""The attributes of our own that several modules write; `conversion/dialects/genai.py` reads them.

The names of the GenAI conventions (``gen_ai.*``) stay literals, as they are written in the conventions.
"""

HTTP_STATUS = "posthog.http.status"
REQUEST_ID = "posthog.request.id"
RETRY_COUNT = "posthog.retry.count"
REQUEST_SERVICE_TIER = "posthog.request.service_tier"
CACHED_CONTENT = "posthog.cached_content"

PROMPT_LENGTH = "posthog.prompt.length"  # in characters
MESSAGE_COUNT = "posthog.messages.count"
FILE_COUNT = "posthog.files.count"

THINKING_LEVEL = "posthog.thinking.level"
THINKING_BUDGET = "posthog.thinking.budget"  # in tokens

TOOL_COUNT = "posthog.tools.count"
TOOL_CALL_COUNT = "posthog.tool_calls.count"
WEB_SEARCH_ENABLED = "posthog.web_search.enabled"
WEB_SEARCH_USED = "posthog.web_search.used"
WEB_SEARCH_COUNT = "posthog.web_search.count"
URL_CONTEXT_ENABLED = "posthog.url_context.enabled"
URL_CONTEXT_USED = "posthog.url_context.used"

IMAGE_COUNT = "posthog.image.count"
IMAGE_SIZE = "posthog.image.size"
IMAGE_QUALITY = "posthog.image.quality"
IMAGE_ASPECT_RATIO = "posthog.image.aspect_ratio"
IMAGE_REFERENCE_COUNT = "posthog.image.reference_count"
