"""libcrypto's memory is given back, whatever becomes of an enrollment."""

import subprocess
import sys


def test_no_enrollment_leaks() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.client.leaks_session"], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
