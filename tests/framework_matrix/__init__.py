"""Real frameworks, each with every instrumentation of its own, against a provider that logs its requests.

`python -m tests.framework_matrix` runs it; `catalogue.py` lists the frameworks, `checker.py` what is checked.
"""
