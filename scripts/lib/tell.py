"""The output of the scripts: progress and one-sentence errors on stderr, results on stdout."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("SANDGATE_CACHE_DIR") or ROOT / ".cache")

# The folder of rustup's programs, in case no shell start-up file has run (CI, sudo), and the folder of the tools.
_CARGO = os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo")
os.environ["PATH"] += f":{_CARGO}/bin:{CACHE}/tools/bin"


class Failure(Exception):
    """An error for the user: one sentence that says what is wrong, where, and what to do."""


def say(line):
    """Prints a line of progress."""
    print(f"==> {line}", file=sys.stderr, flush=True)


def main(entry):
    """Runs a script. Prints a Failure as one line, and exits with status 1."""
    try:
        sys.exit(entry(sys.argv[1:]))
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of the output has exited (`| head`), so no message is printed.
        sys.stderr.close()
        sys.exit(141)
