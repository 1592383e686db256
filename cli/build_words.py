"""The words of `docker build`, and of buildx' build and bake: where they begin, and which have a value."""

from __future__ import annotations

from cli.docker_words import command_at

BUILD_SWITCHES = {
    *("--check", "--load", "--no-cache", "--pull", "--push", "-q", "--quiet", "--rm", "--force-rm", "--squash"),
    *("--compress", "-D", "--debug", "--disable-content-trust", "--help", "-h"),
    # Podman's
    *("--all-platforms", "--compat-volumes", "--disable-compression", "--http-proxy", "--identity-label", "--layers"),
    *("--no-hostname", "--no-hosts", "--omit-history", "--pull-always", "--pull-never", "--rewrite-timestamp"),
    *("--skip-unused-stages", "--squash-all", "--stdin", "--tls-verify"),
}
_FLAG_LETTERS = "qDh"


def build_at(words: list[str]) -> int | None:
    """Where the words behind `build` begin."""
    at = command_at(words)
    for front in (["image", "build"], ["builder", "build"], ["build"]):
        if words[at : at + len(front)] == front:
            return at + len(front)
    return _buildx_at(words, ("build", "b"))


def bake_at(words: list[str]) -> int | None:
    """Where the words behind `buildx bake` begin."""
    return _buildx_at(words, ("bake",))


def _buildx_at(words: list[str], verbs: tuple[str, ...]) -> int | None:
    at = command_at(words)
    if words[at : at + 1] != ["buildx"]:
        return None
    at += 1
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] == "--builder" else 1
    return at + 1 if at < len(words) and words[at] in verbs else None


def build_takes_next(word: str) -> bool:
    """Whether an option has its value in the next word: "-t" and "-qt" have, not "-tNAME"."""
    if word.startswith("--"):
        return word not in BUILD_SWITCHES and "=" not in word
    return len(word[1:].lstrip(_FLAG_LETTERS)) == 1


def short_option(word: str, letter: str) -> str | None:
    """`-o`, `-qo` or `-o=` of a word that is the option of that letter; None for any other."""
    if word.startswith("--") or not word.startswith("-"):
        return None
    front = word[: len(word) - len(word[1:].lstrip(_FLAG_LETTERS))] + letter
    if not word.startswith(front):
        return None
    return front + "=" if word.startswith(f"{front}=") else front
