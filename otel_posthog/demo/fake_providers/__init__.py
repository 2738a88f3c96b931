"""Stand-ins for OpenAI and Gemini on this machine."""
