"""Requests to PostHog, and what their answers mean."""
