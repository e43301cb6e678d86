"""Bouncy Castle from Debian's libbcpkix-java, warm: ``BouncyCastle.java`` in a Java process that is told when to run a round."""

import shutil
import subprocess
from pathlib import Path
from types import TracebackType

__all__ = ["JARS", "BouncyCastle", "missing"]

JARS = [Path("/usr/share/java") / name for name in ("bcprov.jar", "bcutil.jar", "bcpkix.jar")]
_SOURCE = Path(__file__).with_name("BouncyCastle.java")


def missing() -> str | None:
    """What is not installed, or None."""
    if shutil.which("javac") is None:
        return "needs a JDK (Debian: default-jdk-headless)"
    if not all(jar.exists() for jar in JARS):
        return "needs Bouncy Castle (Debian: libbcpkix-java)"
    return None


class BouncyCastle:
    """Both ends in Java.

    Args:
        count: enrollments in a round.
        warm_up: enrollments before the first one; the compiler of the JVM is at its best after some thousands.
    """

    def __init__(self, count: int, warm_up: int = 3000) -> None:
        command = ["java", "-cp", ":".join(map(str, JARS)), str(_SOURCE), str(count), str(warm_up)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.round()

    def round(self) -> float:
        """CPU of one enrollment in microseconds, of the thread that enrolls: the JVM's own threads come on top."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def __enter__(self) -> "BouncyCastle":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._process:
            self._process.kill()
