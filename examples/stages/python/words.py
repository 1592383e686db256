"""Counts the words of its standard input."""

import sys


def main() -> None:
    """Print how many there are."""
    print(sum(len(line.split()) for line in sys.stdin), "words")
