"""Helpers for web frameworks and Celery: the feature and user of a request, in one line.

Import the module of your framework: `otel_posthog.frameworks.starlette` (FastAPI too), `.django`, `.flask`,
`.celery`.
"""
