"""What docker's words say about the terminal and standard input, read before they are forwarded.

Imports nothing: the forwarding client reads this.

Three ways of running a forwarded command:
- The words ask for a terminal (`-t` of run, create, exec; attach, start -a; compose run and exec) and the user sits
  at one, in and out: the guest's program gets a terminal, the user's is raw, every key goes through.
- The command draws progress (build, pull, push, compose up ...) and all three of the user's descriptors are
  terminals: it gets a terminal to draw on. With a terminal both outputs arrive as one, which cannot be told apart
  there anyhow. The user's own terminal stays as it is: Ctrl-C is passed on as a signal and typed-ahead text is left
  to the shell.
- Otherwise plain streams, both outputs apart, so that nothing mixes into what a script reads.
"""

from __future__ import annotations

# Short options of run, create, exec, start, attach and compose that take a value: behind one of these the rest
# of a cluster ("-itv/x:/y") is the value. Only such as can stand before -i and -t matter.
SHORT_WITH_VALUE = frozenset("acehlmpuvwfH")
LONG_SWITCHES = frozenset(
    {
        *("--detach", "--disable-content-trust", "--init", "--interactive", "--no-healthcheck", "--oom-kill-disable"),
        *(
            "--privileged",
            "--publish-all",
            "--quiet",
            "--read-only",
            "--rm",
            "--sig-proxy",
            "--tty",
            "--use-api-socket",
        ),
        *("--attach", "--no-stdin", "--no-deps", "--service-ports", "--build", "--quiet-pull", "--remove-orphans"),
        # podman's, and nerdctl's
        *("--env-host", "--http-proxy", "--latest", "--no-hostname", "--no-hosts", "--no-session", "--passwd"),
        *("--read-only-tmpfs", "--replace", "--rmi", "--rootfs", "--tls-verify", "--unsetenv-all"),
        *("--no-TTY", "--use-aliases", "--debug", "--tls", "--tlsverify", "--no-tty", "--quiet-build"),
    }
)
# `--attach` takes a value with run and create and none with start.
_START_SWITCHES = frozenset({"-a", "-i"})
# Podman's `-l` is --latest where there is a container already; of run and create it is --label.
_LATEST = frozenset({"exec", "start", "attach"})

_PROGRAM_VERBS = frozenset({"run", "create", "exec", "start", "attach"})
# Verbs that never read standard input. Others get it: a prompt of `prune`, the archive of `load`.
_NO_INPUT = frozenset(
    {
        *("commit", "diff", "events", "export", "history", "images", "info", "inspect", "kill", "logs", "ls", "pause"),
        *("port", "ps", "pull", "push", "rename", "restart", "rm", "rmi", "save", "search", "stats", "stop", "tag"),
        *("top", "unpause", "update", "version", "wait", "list", "down", "connect", "disconnect", "df", "logout"),
        *("annotate", "demote", "disable", "du", "enable", "imagetools", "promote", "rollback", "scale", "services"),
        *("show", "use"),
    }
)
# Those that read it where a word says so.
_ON_REQUEST = frozenset({"b", "build", "config", "cp", "create", "import"})
# Groups whose words are not taken apart above: of them only standard input is of interest.
_OTHER_GROUPS = frozenset(
    {"builder", "buildx", "config", "manifest", "node", "secret", "service", "stack", "swarm", "trust"}
)
_STARTS = frozenset({"run", "start", "restart", "up"})
_DRAWS = frozenset({"build", "buildx", "builder", "load", "login", "pull", "push", "stats"})
_COMPOSE_DRAWS = frozenset(
    {"build", "create", "down", "kill", "pause", "pull", "push", "restart", "rm", "start", "stop", "unpause", "up"}
)
GROUPS = frozenset({"container", "image", "network", "volume", "system", "context", "plugin", "compose"})
GLOBAL_WITH_VALUE = frozenset(
    {
        *("--config", "-c", "--context", "-H", "--host", "-l", "--log-level", "--tlscacert", "--tlscert", "--tlskey"),
        *("-f", "--file", "-p", "--project-name", "--profile", "--env-file", "--project-directory", "--ansi"),
        *("--parallel", "--progress", "--builder"),
        # nerdctl's
        *("-a", "--address", "-n", "--namespace", "--snapshotter", "--storage-driver", "--data-root", "--hosts-dir"),
        *("--cgroup-manager", "--cni-path", "--cni-netconfpath"),
    }
)
_NOT_ELSEWHERE = frozenset(
    {"-D", "--debug", "--debug-full", "--experimental", "--insecure-registry", "--log-level", "--config"}
)
_NERDCTLS = (
    *("--namespace", "--snapshotter", "--storage-driver", "--data-root", "--hosts-dir", "--cgroup-manager"),
    *("--cni-path", "--cni-netconfpath"),
)


def plan(words: list[str], terminals: tuple[bool, bool, bool]) -> tuple[bool, bool]:
    """Whether the guest's program gets a terminal, and whether it gets standard input.

    :param words: docker's, without "docker" itself.
    :param terminals: whether standard input, output and error are terminals.
    """
    if wants_terminal(words) and terminals[0] and terminals[1]:
        return True, True
    return draws(words) and all(terminals), reads_input(words)


def starts(words: list[str]) -> bool:
    """Whether the command starts containers, so that what becomes of their ports is of interest."""
    return _split(words)[1] in _STARTS


def reads_variables(words: list[str]) -> bool:
    """Whether the client may look up variables of its own surroundings for its user: `-e NAME`, ${NAME}, plugins."""
    group, verb, _ = _split(words)
    return group == "compose" or verb not in _NO_INPUT


def draws(words: list[str]) -> bool:
    """Whether the command shows progress or asks for a password, which it does well only on a terminal."""
    group, verb, _ = _split(words)
    if group == "compose":
        return verb in _COMPOSE_DRAWS
    return verb in _DRAWS


def wants_terminal(words: list[str]) -> bool:
    """Whether docker's words (without "docker" itself) ask for a terminal inside the container."""
    group, verb, rest = _split(words)
    options = _options(verb, rest)
    if group == "compose" and verb in ("run", "exec"):
        # Compose gives a terminal unless told not to, and none to what is detached.
        return not options & {"-T", "--no-TTY", "--no-tty", "-d", "--detach"}
    if verb in ("run", "create", "exec"):
        return bool(options & {"-t", "--tty"})
    # start -ai and attach: whether the container has a terminal is not in the words; the guest's client asks.
    return verb == "attach" or (verb == "start" and bool(options & {"-a", "--attach", "-i", "--interactive"}))


def reads_input(words: list[str]) -> bool:
    """Whether standard input may be read by docker's words.

    What is not read must be left alone: `while read name; do hostvm docker exec $name true; done < names`.
    """
    group, verb, rest = _split(words)
    if group == "compose":
        return names_input(words[: len(words) - len(rest)]) or _compose_reads(verb, rest)
    options = _options(verb, rest)
    if verb in ("run", "exec", "start"):
        return bool(options & {"-i", "--interactive"}) and not options & {"-d", "--detach"}
    if verb in ("attach", "create"):
        return verb == "attach" and "--no-stdin" not in options
    if not group and verb in _OTHER_GROUPS:
        _, verb, rest = _split(rest)
    if verb in ("b", "build"):
        rest = _without_outputs(rest)
    if verb == "load":
        return names_input(rest) or not any(word.startswith(("-i", "-qi", "--input")) for word in rest)
    return names_input(rest) if verb in _ON_REQUEST else verb not in _NO_INPUT


def _without_outputs(rest: list[str]) -> list[str]:
    """A build's words without `-o -`, which is standard output."""
    return [
        word
        for before, word in zip(["", *rest], rest, strict=False)
        if before not in ("-o", "--output") and not word.startswith(("-o", "--output="))
    ]


def _compose_reads(verb: str, rest: list[str]) -> bool:
    """As `reads_input`, of compose's words behind its own options, whose `-f -` is the compose file."""
    if verb in ("run", "exec"):
        options = _options(verb, rest)
        return "--no-interactive" not in options and not options & {"-d", "--detach"}
    if verb in _COMPOSE_DRAWS:
        return verb == "rm"  # which asks first
    return names_input(rest) if verb in _ON_REQUEST else verb not in _NO_INPUT


def names_input(words: list[str]) -> bool:
    """Whether a word is standard input as a file: `-`, `-f-`, `--file=-`, `/dev/stdin`."""
    return any(word in ("-", "-f-") or word.endswith(("=-", "/fd/0")) or "/dev/stdin" in word for word in words)


def command_at(words: list[str]) -> int:
    """Where the command begins behind docker's own options, and nerdctl's, that lead to no other engine."""
    at = 0
    while at < len(words) and (
        words[at].partition("=")[0] in _NOT_ELSEWHERE or words[at].startswith(("-l", "-n", *_NERDCTLS))
    ):
        at += 2 if words[at] in GLOBAL_WITH_VALUE else 1
    return at


def names_engine(words: list[str]) -> bool:
    """Whether docker's own options lead to another engine: `--context`, or `-H` that is no socket of this one's."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        word = words[at]
        if word.partition("=")[0] == "--context" or word.startswith("-c"):
            return True
        if word.partition("=")[0] == "--host" or word.startswith("-H"):
            value = "".join(words[at + 1 : at + 2]) if word in GLOBAL_WITH_VALUE else word
            if "unix:" not in value:
                return True
        at += 2 if word in GLOBAL_WITH_VALUE else 1
    return False


def verb_words(words: list[str]) -> tuple[str, int]:
    """The verb, and where the words behind it begin. A group (`container run`) is passed over."""
    _, verb, rest = _split(words)
    return verb, len(words) - len(rest)


def takes_next(verb: str, word: str) -> bool:
    """Whether an option of run, create, exec, start or attach has its value in the next word."""
    if word.startswith("--"):
        return "=" not in word and (word not in LONG_SWITCHES or (word == "--attach" and verb != "start"))
    return _cluster(verb, word, set())


def front_of(word: str, letter: str) -> str | None:
    """`-v` or `-itv` of a cluster whose last option is that letter, which takes a value; None for any other word."""
    if word.startswith("--"):
        return None
    for place, one in enumerate(word[1:], 1):
        if one == letter:
            return word[: place + 1]
        if one in SHORT_WITH_VALUE or one == "=":
            return None  # what follows is the value of another one
    return None


def _split(words: list[str]) -> tuple[str, str, list[str]]:
    """Group ("" without), verb, and the words behind the verb."""
    group = ""
    at = 0
    while at < len(words):
        word = words[at]
        if word.startswith("-"):
            at += 2 if word in GLOBAL_WITH_VALUE else 1
        elif not group and word in GROUPS:
            group = word
            at += 1
        else:
            return group, word, words[at + 1 :]
    return group, "", []


def _options(verb: str, rest: list[str]) -> set[str]:
    """The options before the first word that is none; clusters of short ones are taken apart."""
    found: set[str] = set()
    if verb not in _PROGRAM_VERBS:
        return found
    at = 0
    while at < len(rest) and rest[at].startswith("-") and rest[at] not in ("-", "--"):
        word = rest[at]
        at += 1
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            if not equals or value.lower() not in ("false", "0", "f"):
                found.add(name)
            if not equals and (name not in LONG_SWITCHES or (name == "--attach" and verb != "start")):
                at += 1
        elif _cluster(verb, word, found):
            at += 1
    return found


def _cluster(verb: str, word: str, found: set[str]) -> bool:
    """Take "-itv" apart; True when its last letter wants the next word."""
    for place, letter in enumerate(word[1:], 1):
        if letter == "=":
            # "-t=false" is a value for the letter before.
            if word[place + 1 :].lower() in ("false", "0", "f"):
                found.discard(f"-{word[place - 1]}")
            return False
        option = f"-{letter}"
        switch = (verb == "start" and option in _START_SWITCHES) or (verb in _LATEST and letter == "l")
        if letter in SHORT_WITH_VALUE and not switch:
            found.add(option)
            return place == len(word) - 1
        found.add(option)
    return False
