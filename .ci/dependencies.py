"""Print the dependencies of the core and of its tests, one a line; the project is read from the checkout."""

from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib
project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
print("\n".join([*project["dependencies"], "opentelemetry-instrumentation", "pytest", "hypothesis", "wrapt"]))
