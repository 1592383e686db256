"""Coverage-guided runs: `python run.py TARGET SECONDS`; a finding ends it, its input lies under build/fuzz.

`make fuzz` runs every target for FUZZ_SECONDS each (default 60). Bounds: 64 KiB of input, 5 s each, 2 GiB in all.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))

with atheris.instrument_imports(include=["hostvm", "images", "runtime"]):
    from seeds import SEEDS
    from targets import LONGEST, TARGETS


def main() -> None:
    name, seconds = sys.argv[1:]
    corpus = Path(__file__).parents[2] / "build" / "fuzz" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = (f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=5", "-rss_limit_mb=2048")
    words = (*limits, f"-artifact_prefix={corpus.parent}/{name}-", "-print_final_stats=1", str(corpus))
    atheris.Setup([sys.argv[0], *words], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
