"""What pip and uv are told, and what they say: index, certificates, proxy, time-outs, errors.

The installer and every later fetch of a package ask here. Standard library only, because the
installer runs it before any environment exists.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

# All certificates in one file, as Debian and Red Hat have them. Python's own look-up may know the
# folder only, where a certificate that was added to the file alone is not found.
BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")

#: pip's setting -> uv's. Not pip's further indexes: pip joins the files of all of them, uv takes
#: those of one, so that a mirror with a part of the files would hide the wheel that fits.
_UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "retries": "UV_HTTP_RETRIES",
    "proxy": "ALL_PROXY",
}


def pip_config_files(environ: Mapping[str, str]) -> list[Path]:
    """The places pip reads its configuration from, the weakest first."""
    if environ.get("PIP_CONFIG_FILE") == os.devnull:  # pip's way to say "none"
        return []
    home = Path(environ.get("HOME", "~")).expanduser()
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    shared = environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    files = [Path(folder) / "pip/pip.conf" for folder in shared.split(":")]
    files += [Path("/etc/pip.conf"), home / ".pip/pip.conf", user / "pip/pip.conf"]
    files += [Path(sys.prefix) / "pip.conf"]
    if environ.get("PIP_CONFIG_FILE"):
        files.append(Path(environ["PIP_CONFIG_FILE"]))
    return files


def pip_settings(environ: Mapping[str, str], files: list[Path]) -> dict[str, str]:
    """Return pip's settings (`index-url`, `cert`, …) as `pip install` would see them.

    Raises:
        ValueError: one of the files is not a configuration file.
    """
    settings: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for file in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{file}: not a pip configuration file: {reason}") from error
        for section in settings:
            if parser.has_section(section):
                for key, value in parser.items(section):
                    settings[section][key.replace("_", "-")] = " ".join(value.split())
    from_environment = {
        key[len("PIP_") :].lower().replace("_", "-"): value
        for key, value in environ.items()
        if key.startswith("PIP_") and value
    }
    return {**settings["global"], **settings["install"], **from_environment}


def own_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings of pip on this machine for this environment (ValueError: see pip_settings)."""
    return pip_settings(environ, pip_config_files(environ))


def certificates(environ: Mapping[str, str], pip: Mapping[str, str]) -> str | None:
    """The file of certificates to trust: the one that is set, else the system's."""
    system = (bundle for bundle in BUNDLES if os.path.isfile(bundle))
    return environ.get("SSL_CERT_FILE") or pip.get("cert") or next(system, None)


def _as_uv_has_it(key: str, value: str) -> str:
    """A value of pip in uv's spelling, "" where it says nothing to uv."""
    if key == "no-index":
        return "true" if value.lower() in ("1", "true", "yes", "on", "t", "y") else ""
    if key in ("timeout", "default-timeout", "retries"):
        return value.partition(".")[0]  # uv wants a whole number
    return value


def client_environment(environ: Mapping[str, str], pip: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for pip and uv: what is set for pip holds for uv as well.

    A setting made for uv or pip themselves wins. uv never downloads a Python.
    """
    env = dict(environ)
    for key, name in _UV_NAMES.items():
        value = _as_uv_has_it(key, pip.get(key, ""))
        if value and not (key == "index-url" and env.get("UV_INDEX_URL")):
            env.setdefault(name, value)
    if env.get("UV_NO_INDEX") and pip.get("find-links"):  # all that there is
        env.setdefault("UV_FIND_LINKS", ",".join(pip["find-links"].split()))
    trusted = certificates(environ, pip)
    if trusted:
        env["SSL_CERT_FILE"] = trusted
        env.setdefault("PIP_CERT", trusted)
    system_store = ssl.get_default_verify_paths()
    if trusted or system_store.cafile or system_store.capath:
        # the system's certificates, as pip and apt use them; the second name is older uv's
        env.setdefault("UV_SYSTEM_CERTS", "true")
        env.setdefault("UV_NATIVE_TLS", "true")
    env.setdefault("UV_PYTHON_DOWNLOADS", "never")
    env.setdefault("UV_HTTP_TIMEOUT", "180")
    # For commands that start often, also where PYTHONDONTWRITEBYTECODE keeps Python from doing it.
    env.setdefault("UV_COMPILE_BYTECODE", "1")
    env.setdefault("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    # `--user` contradicts `--target`, and `--target` touches no environment that is to be spared.
    env["PIP_USER"] = env["PIP_REQUIRE_VIRTUALENV"] = "0"
    env.setdefault("PIP_ROOT_USER_ACTION", "ignore")
    return env


def index_of(env: Mapping[str, str]) -> str:
    """Where packages come from in an environment of `client_environment`; without its password."""
    if env.get("UV_NO_INDEX"):
        return env.get("UV_FIND_LINKS") or "no index (no-index is set for pip)"
    address = env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL")
    if not address:
        return "the default package index"
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


CAUSES = [
    (r"no space left|disk quota exceeded", "the disk is full; free some of it"),
    (
        r"certificate|unknownissuer|ssl: ",
        "the package index's certificate was not accepted; name your network's certificates in "
        "SSL_CERT_FILE",
    ),
    (
        r"dns error|failed to lookup|name resolution|name or service not known|connect error"
        r"|connection (refused|reset)|network is unreachable|timed out|timeout|failed to fetch"
        r"|error sending request|newconnectionerror|proxyerror|tunnel error|http status",
        "the package index did not answer; check the network, the proxy (HTTPS_PROXY) or the index "
        "(PIP_INDEX_URL)",
    ),
    (
        r"no solution found|unsatisfiable|no matching distribution|could not find a version",
        "the package index has no version that fits this Python and machine",
    ),
    (
        r"failed to build|build backend|command '?(gcc|cc|g\+\+)",
        "a package has no wheel for this Python and machine and could not be built; install a C "
        "and C++ compiler and Python's headers",
    ),
]


def explain(output: str) -> str:
    """Turn what a failed pip or uv printed into one line: cause, what to do, its own last words."""
    lines = [line.strip(" │├─╰▶×\t") for line in output.splitlines()]
    lines = [line for line in lines if line and not line.startswith("hint:")]
    for pattern, advice in CAUSES:
        hits = [line for line in lines if re.search(pattern, line, re.IGNORECASE)]
        if hits:
            return f"{advice} ({hits[-1][:300]})"
    return lines[-1][:300] if lines else "no message"


def trust_certificates() -> None:
    """Let this process's own downloads trust what pip and uv trust (environment variables)."""
    pip: Mapping[str, str] = {}
    with contextlib.suppress(ValueError):  # a broken pip.conf matters to fetches of packages only
        pip = own_settings(os.environ)
    trusted = certificates(os.environ, pip)
    if trusted:
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            os.environ.setdefault(name, trusted)
