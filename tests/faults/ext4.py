"""A file system of its own in a file, whose power can be cut: Linux, and only the superuser may mount it.

The image is what the disk has got so far: what lies in the system's cache only is not
in it. So a copy of the image, mounted elsewhere, is what a machine finds after the
power failed; its journal is replayed by the mount, as it would be there. (So LevelDB's
fault tests and etcd's LazyFS drop what was not synced.)
"""

import shutil
import subprocess
from pathlib import Path


class Image:
    """An ext4 file system in a file.

    Parameters
    ----------
    folder
        Where the image and its mount points are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mounted: list[Path] = []
        self._file = folder / "disk.img"
        self._file.write_bytes(b"")
        with self._file.open("r+b") as file:
            file.truncate(16 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-O", "has_journal", self._file], check=True)

    def mount(self) -> Path:
        """Mount it and return where."""
        return self._mount(self._file, "disk")

    def cut(self) -> Path:
        """Mount what a power cut at this moment would leave, and return where."""
        copy = self._folder / "after.img"
        shutil.copyfile(self._file, copy)
        return self._mount(copy, "after")

    def close(self) -> None:
        """Unmount everything."""
        while self._mounted:
            subprocess.run(["umount", "-l", self._mounted.pop()], check=True)

    def _mount(self, file: Path, name: str) -> Path:
        place = self._folder / name
        place.mkdir(exist_ok=True)
        subprocess.run(["mount", "-o", "loop", file, place], check=True)
        self._mounted.append(place)
        return place
