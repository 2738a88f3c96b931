"""Requests to PostHog, and the outcomes of their answers."""
