"""A virtual environment for each framework, kept between runs and outside of the repository.

Its versions stand in `constraints/`; the product in it is the checkout that runs the matrix.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.framework_matrix.catalogue import HERE, Framework

ROOT = HERE.parent.parent
_PRODUCT = f"{ROOT}[openai,gemini]"
_NODE_FILES = ("package.json", "package-lock.json")


def cache() -> Path:
    """Return the directory of all environments."""
    named = os.environ.get("OTEL_POSTHOG_FRAMEWORKS")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else home / "otel-posthog" / "frameworks"


def prepare(framework: Framework, *, newest: bool = False) -> Path:
    """Return the directory of a framework's environment, built if it is not there or of other versions.

    With `newest` the constraints are left aside, and written anew from what was installed.
    """
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{framework.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed: pytest's workers may want one at once
        return _prepared(framework, newest=newest)


def _prepared(framework: Framework, *, newest: bool) -> Path:
    place = cache() / framework.name
    if newest or not _is_up_to_date(place / ".packages", _packages(framework)):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        if framework.language == "node":
            _install_node(place)
        else:
            _install_python(framework, place, newest=newest)
        (place / ".packages").write_text(_packages(framework))
        (place / ".product").write_text(_product())
    if framework.language == "python" and not _is_up_to_date(place / ".product", _product()):
        # Entry points and dependencies may have changed; the code itself is read from the checkout.
        _pip(place, "install", "--quiet", "--constraint", str(framework.constraints), "--editable", _PRODUCT)
        (place / ".product").write_text(_product())
    return place


def _is_up_to_date(stamp: Path, wanted: str) -> bool:
    return stamp.exists() and stamp.read_text() == wanted


def _packages(framework: Framework) -> str:
    """Return what changes with anything of others that an environment is made of."""
    files = [framework.constraints]
    if framework.language == "node":
        files = [HERE / "programs" / name for name in _NODE_FILES]
    texts = [file.read_text() if file.exists() else "" for file in files]
    return _digest(*framework.requirements, sys.version, *texts)


def _product() -> str:
    """Return what changes with the dependencies and entry points of the product, not with its tools."""
    return _digest((ROOT / "pyproject.toml").read_text().partition("[dependency-groups]")[0])


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def interpreter(place: Path) -> Path:
    """Return the Python of an environment."""
    return place / "bin" / "python"


def version(framework: Framework, place: Path) -> str:
    """Return the version of the framework that is installed."""
    if framework.language == "node":
        code = f"console.log(require('{place}/node_modules/{framework.package}/package.json').version)"
        command = ["node", "-e", code]
    else:
        code = f"from importlib.metadata import version; print(version({framework.package!r}))"
        command = [str(interpreter(place)), "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _pip(place: Path, *arguments: str) -> str:
    """Run the pip of this interpreter on another environment, which needs none of its own."""
    pip = [
        "nice",
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(interpreter(place)),
        "--disable-pip-version-check",
    ]
    return subprocess.run([*pip, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def _install_python(framework: Framework, place: Path, *, newest: bool) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    constraints = [] if newest else ["--constraint", str(framework.constraints)]
    wanted = [*framework.requirements, "--editable", _PRODUCT]
    _pip(place, "install", "--quiet", "--no-compile", *constraints, *wanted)
    if newest:
        framework.constraints.write_text(_pip(place, "freeze", "--exclude-editable"))


def _install_node(place: Path) -> None:
    for name in _NODE_FILES:
        shutil.copy(HERE / "programs" / name, place)
    command = ["nice", "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
    subprocess.run(command, check=True, cwd=place)
