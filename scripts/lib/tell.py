"""How the scripts speak: progress and one-sentence failures on stderr, answers on stdout."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("SANDGATE_CACHE_DIR") or ROOT / ".cache")

# Where rustup puts things when no shell start-up file has run (CI, sudo), and tools of our own.
_CARGO = os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo")
os.environ["PATH"] += f":{_CARGO}/bin:{CACHE}/tools/bin"


class Failure(Exception):
    """What is wrong, where, and what to do: one sentence, for the user."""


def say(line):
    """A line of progress."""
    print(f"==> {line}", file=sys.stderr, flush=True)


def main(entry):
    """Runs a script; a Failure becomes one line and exit status 1."""
    try:
        sys.exit(entry(sys.argv[1:]))
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nobody is left to tell.
        sys.stderr.close()
        sys.exit(141)
