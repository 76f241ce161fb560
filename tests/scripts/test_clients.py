"""What scripts/clients says of clients that could not be run: never nothing.

Run by `make test`, with the rest of this folder.
"""

import contextlib
import io
import os
import shutil
import unittest
from unittest import mock

from test_scripts import Case, script

CAN_NOT = "the clients could not be installed: npm is missing"


class NotRun(Case):
    def run_all(self, results, ci):
        """(exit status, output) of scripts/clients for what its modes come to."""
        clients = script("clients")
        results = [clients.NotRun(CAN_NOT) if result is None else result for result in results]
        output = io.StringIO()
        with mock.patch.dict(os.environ, {"CI": "true" if ci else ""}), contextlib.redirect_stdout(output), \
                mock.patch.object(clients, "run", side_effect=results):
            return clients.run_all(("local", "cloud"), [], "envoy"), output.getvalue()

    def test_what_could_not_be_run_is_listed_and_counted(self):
        status, output = self.run_all([(7, 0, 0), None], ci=False)
        self.assertEqual(status, 0)
        self.assertIn(f"not run: cloud: all of its tests ({CAN_NOT})\n", output)
        self.assertRegex(output, r"\nclients, in \d+ s: 7 passed, 0 failed, 1 not run\n$")

    def test_in_ci_it_is_a_failure(self):
        for results in ([(7, 0, 0), None], [None, None], [(7, 0, 0), (6, 0, 1)]):
            status, output = self.run_all(results, ci=True)
            self.assertEqual(status, 1, output)
            self.assertRegex(output, r", 1 failed, [12] not run\n$")

    def test_failures_of_any_mode_count(self):
        self.assertEqual(self.run_all([(7, 1, 0), (8, 0, 0)], ci=False)[0], 1)

    def test_clients_that_can_not_be_installed_are_a_sentence(self):
        clients = script("clients")
        tools = [(name, f'exec {shutil.which(name)} "$@"') for name in ("flock", "mkdir", "sha256sum")]
        old = ("python3", 'case "$1" in --version) echo Python 3.8.1 ;; *) exit 1 ;; esac')
        path = self.bare_path(*tools, old, without=("python3",))
        with mock.patch.dict(os.environ, {"PATH": path, "SANDGATE_CACHE_DIR": str(self.folder)}), \
                contextlib.redirect_stderr(io.StringIO()), self.assertRaises(clients.NotRun) as raised:
            clients.installed()
        self.assertEqual(str(raised.exception), "the clients could not be installed: they need Python 3.11 "
                                                "or newer, and `python3` is Python 3.8.1")


    def test_what_sidecars_need_and_lack_is_named(self):
        entrance = script("clients").private_network.entrance
        path = self.bare_path(("unshare", "exit 0"), ("ip", "exit 0"))
        with mock.patch.dict(os.environ, {"PATH": path}), mock.patch.object(os, "geteuid", return_value=1000):
            self.assertEqual(entrance("egress"), (None, "sidecars need root"))
        with mock.patch.dict(os.environ, {"PATH": path}), mock.patch.object(os, "geteuid", return_value=0):
            self.assertEqual(entrance("egress"), (None, "there is no `nft`; install it with: scripts/setup network"))


if __name__ == "__main__":
    unittest.main()
