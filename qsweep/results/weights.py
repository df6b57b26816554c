"""Weights of trials, stored beside the store: stages start from them, and `export` reads them.

A file's name consists of the trial's key and digests of the environment and of the content. So a file that was
truncated or changed is ignored, and the weights are made again.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qsweep import files

FOLDER = "weights"
DIGITS = 16
"""The length of each digest in a name."""


@dataclass(frozen=True)
class Weights:
    """The weights of trials in one environment, as safetensors.

    Attributes:
        folder: where they are; created with the first file.
    """

    folder: Path
    environment: str

    @classmethod
    def beside(cls, results: Path, environment: str) -> Weights:
        """The weights in a results folder."""
        return cls(results / FOLDER, environment)

    def get(self, key: str) -> bytes | None:
        """A trial's weights; None if there are none, or none that are intact."""
        for path in self._files(key):
            with suppress(OSError):
                content = path.read_bytes()
                if path.name == self._name(key, content):
                    return content
        return None

    def put(self, key: str, content: bytes) -> str:
        """Store a trial's weights in place of any others of it, and return their SHA-256 once they are on the disk.

        Raises:
            UserError: the folder can't be written, or the disk is full.
        """
        path = self.folder / self._name(key, content)
        files.write(path, content)
        for other in self._files(key):
            if other != path:
                files.remove(other)
        return hashlib.sha256(content).hexdigest()

    def owners(self) -> dict[str, int]:
        """The bytes stored for each trial, by key, over all environments."""
        found: dict[str, int] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            key = path.name.partition("-")[0]
            found[key] = found.get(key, 0) + path.stat().st_size
        return found

    def delete(self, key: str) -> None:
        """Delete a trial's weights of all environments.

        Raises:
            UserError: the folder can't be written.
        """
        for path in self.folder.glob(f"{key}-*.safetensors"):
            files.remove(path)

    def _files(self, key: str) -> list[Path]:
        return sorted(self.folder.glob(f"{self._owner(key)}-*.safetensors"))

    def _owner(self, key: str) -> str:
        return f"{key}-{_digest(self.environment.encode())}"

    def _name(self, key: str, content: bytes) -> str:
        return f"{self._owner(key)}-{_digest(content)}.safetensors"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGITS]
