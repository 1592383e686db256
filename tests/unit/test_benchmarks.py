from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_benchmark_hides_a_package_of_ours() -> None:
    """A script's own folder comes first on sys.path: benchmarks/images.py would be imported for `images`.

    benchmarks/cli.py may be called so: no layer imports `cli`.
    """
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]["packages"]
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert scripts
    assert not scripts & (set(packages) - {"cli"})
