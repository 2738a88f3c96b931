"""A few lines for each web framework and for Celery: feature and user of a request, without further code.

Each module is imported by those who have that framework: `otel_posthog.frameworks.starlette` (FastAPI too),
`.django`, `.flask`, `.celery`.
"""
