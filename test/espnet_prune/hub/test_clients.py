"""What is set for pip holds for uv and for our own downloads; a local index stands for PyPI."""

import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from espnet_prune.hub import clients, packages


def test_pip_settings_precedence(tmp_path):
    shared, user = tmp_path / "shared.conf", tmp_path / "user.conf"
    shared.write_text("[global]\nindex-url = https://a.invalid/simple\ncert = /a.pem\n")
    user.write_text("[global]\nindex_url = https://b.invalid/simple\n")
    files = [tmp_path / "absent.conf", shared, user]
    assert clients.pip_settings({}, files) == {
        "index-url": "https://b.invalid/simple",
        "cert": "/a.pem",
    }
    user.write_text(
        "[global]\nindex-url = https://b.invalid\n[install]\nindex-url = https://c.invalid\n"
    )
    assert clients.pip_settings({}, files)["index-url"] == "https://c.invalid"
    environ = {"PIP_INDEX_URL": "https://d.invalid", "PIP_CERT": ""}
    settings = clients.pip_settings(environ, files)
    assert settings == {"index-url": "https://d.invalid", "cert": "/a.pem"}


def test_pip_config_that_is_none(tmp_path):
    file = tmp_path / "pip.conf"
    file.write_text("index-url = https://a.invalid\n")
    with pytest.raises(ValueError, match=re.escape(str(file))):
        clients.pip_settings({}, [file])


def test_pip_config_files_end_with_the_named_one(tmp_path):
    files = clients.pip_config_files({"HOME": "/h", "PIP_CONFIG_FILE": "/my/pip.conf"})
    assert files[-1] == Path("/my/pip.conf")
    assert Path("/h/.config/pip/pip.conf") in files


def test_what_is_set_for_pip_holds_for_uv():
    pip = {
        "index-url": "https://a.invalid",
        "extra-index-url": "https://b.invalid https://c.invalid",
        "find-links": "/wheels /more",
        "trusted-host": "a.invalid",
        "default-timeout": "15.5",
        "retries": "1",
        "proxy": "http://proxy.invalid:3128",
    }
    env = clients.client_environment({"PATH": "/bin"}, pip)
    wanted = {
        "PATH": "/bin",
        "UV_DEFAULT_INDEX": "https://a.invalid",
        "UV_INSECURE_HOST": "a.invalid",
        "UV_HTTP_TIMEOUT": "15",
        "UV_HTTP_RETRIES": "1",
        "ALL_PROXY": "http://proxy.invalid:3128",
    }
    assert {name: env.get(name) for name in wanted} == wanted
    # uv would take the first place that has some file of a version, and not the one that fits
    assert not {"UV_INDEX", "UV_FIND_LINKS"} & set(env)
    env = clients.client_environment({}, {"no-index": "true", "find-links": "/wheels /more"})
    assert (env["UV_NO_INDEX"], env["UV_FIND_LINKS"]) == ("true", "/wheels,/more")


def test_nothing_set_for_pip():
    env = clients.client_environment({}, {"no-index": "false"})
    assert env["UV_HTTP_TIMEOUT"] == "180"
    assert not {"UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "UV_NO_INDEX"} & set(env)
    assert clients.index_of(env) == "the default package index"


def test_pip_without_configuration_files():
    assert clients.pip_config_files({"PIP_CONFIG_FILE": os.devnull}) == []


def test_the_index_is_named_without_its_password():
    pip = {"index-url": "https://me:secret@a.invalid:8080/simple"}
    assert clients.index_of(clients.client_environment({}, pip)) == "https://a.invalid:8080/simple"


@pytest.mark.parametrize("name", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_index_of_uv_wins(name):
    env = clients.client_environment(
        {name: "https://u.invalid"}, {"index-url": "https://a.invalid"}
    )
    assert env[name] == "https://u.invalid"
    assert "https://a.invalid" not in env.values()


def test_certificates_of_either_hold_for_both():
    env = clients.client_environment({"SSL_CERT_FILE": "/s.pem"}, {})
    assert env["PIP_CERT"] == "/s.pem"
    env = clients.client_environment({}, {"cert": "/p.pem"})
    assert env["SSL_CERT_FILE"] == "/p.pem"
    assert env["UV_SYSTEM_CERTS"] == "true"


NETWORK = """error: Failed to fetch: `https://index.invalid/simple/torch/`
  Caused by: error sending request for url
  Caused by: dns error: failed to lookup address information
"""


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        (NETWORK, "did not answer; check the network"),
        ("ERROR: pip\nReadTimeoutError: Read timed out.", "did not answer; check the network"),
        ("error: invalid peer certificate: UnknownIssuer", "SSL_CERT_FILE"),
        ("error: failed to write: No space left on device (os error 28)", "the disk is full"),
        ("  × No solution found when resolving dependencies:", "has no version that fits"),
        ("error: Failed to build `x==1`\n  g++: not found", "install a C and C\\+\\+ compiler"),
        ("some other trouble\n\n", "^some other trouble"),
        ("", "no message"),
    ],
)
def test_explain_names_cause_and_remedy(output, advice):
    line = clients.explain(output)
    assert re.search(advice, line)
    assert "\n" not in line


# --- fetches from a local index -------------------------------------------------------------------


def write_wheel(folder: Path, name: str, tag: str = "py3-none-any") -> None:
    """A wheel of version 1.0 with one module, in a folder as an index has one for each name."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    files = {
        f"{name}/__init__.py": f"tag = {tag!r}\n",
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\n"
        f"Root-Is-Purelib: true\nTag: {tag}\n",
        f"{name}-1.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(folder / name / f"{name}-1.0-{tag}.whl", "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)


class Index(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def serve(request):
    """Serves a folder from this machine, by https where an authority is given; its address."""

    def start(folder: Path, authority: Path | None = None) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Index, directory=str(folder)))
        scheme = "http"
        if authority:
            certificate = authority.with_name("server.pem")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
            server.socket = context.wrap_socket(server.socket, server_side=True)
            scheme = "https"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        request.addfinalizer(server.server_close)
        request.addfinalizer(server.shutdown)
        return f"{scheme}://127.0.0.1:{server.server_port}"

    return start


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """No setting of this machine, of pip or uv, is in force."""
    for name in list(os.environ):
        known = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
        if name.startswith(("PIP_", "UV_")) or name in known or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv_cache"))
    monkeypatch.setattr(clients, "BUNDLES", ())


@pytest.fixture
def fetch(bare, tmp_path):
    """Fetches foo==1.0 as a recipe fetches a model's package; returns what foo's module says."""
    if not packages._install_commands("foo==1.0", tmp_path):
        pytest.skip("there is neither pip nor uv")

    def run():
        target = tmp_path / "target"
        packages._install("foo==1.0", target)
        return (target / "foo" / "__init__.py").read_text()

    return run


def test_fetch_heeds_pips_index(fetch, tmp_path, serve, monkeypatch):
    write_wheel(tmp_path / "index", "foo")
    monkeypatch.setenv("PIP_INDEX_URL", serve(tmp_path / "index"))
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")
    assert "py3" in fetch()


def test_fetch_heeds_pips_configuration_file(fetch, tmp_path, serve, monkeypatch):
    write_wheel(tmp_path / "index", "foo")
    text = f"[global]\nuser = true\nindex-url = {serve(tmp_path / 'index')}\n"
    (tmp_path / "pip.conf").write_text(text)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert "py3" in fetch()


def test_fetch_joins_the_files_of_several_indexes(fetch, tmp_path, serve, monkeypatch):
    """A partial mirror that has the version, but no file of it that fits, hides nothing."""
    write_wheel(tmp_path / "index", "foo")
    write_wheel(tmp_path / "mirror", "foo", "cp27-none-any")
    monkeypatch.setenv("PIP_INDEX_URL", serve(tmp_path / "index"))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", serve(tmp_path / "mirror"))
    assert "py3" in fetch()


def test_fetch_without_an_index(fetch, tmp_path, monkeypatch):
    write_wheel(tmp_path / "wheels", "foo")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels" / "foo"))
    assert "py3" in fetch()


def test_index_that_does_not_answer(fetch, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    with pytest.raises(FileNotFoundError) as caught:
        fetch()
    line = str(caught.value)
    assert line.startswith(
        "the package foo==1.0 cannot be fetched from http://127.0.0.1:9/simple (uv, exit 2: the "
        "package index did not answer"
    )
    assert "refused" in line and "\n" not in line and "secret" not in line


def test_index_without_the_package(fetch, tmp_path, serve, monkeypatch):
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("PIP_INDEX_URL", serve(tmp_path / "index"))
    with pytest.raises(FileNotFoundError, match="foo==1.0 cannot .* has no version that fits"):
        fetch()


# --- certificates ---------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path):
    """The certificate of an authority that no system knows; beside it a server's, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on PATH")
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    for name, options in (
        ("authority", ["-addext", "keyUsage=critical,keyCertSign"]),
        ("server", ["-CA", "authority.pem", "-CAkey", "authority.key"]),
    ):
        options += ["-addext", "subjectAltName=IP:127.0.0.1", "-subj", f"/CN={name}"]
        options += ["-addext", "basicConstraints=CA:FALSE"] if name == "server" else []
        options += ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run([*new, *options], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "authority.pem"


def test_certificate_that_is_in_the_systems_bundle_only(
    fetch, tmp_path, serve, authority, monkeypatch
):
    write_wheel(tmp_path / "index", "foo")
    monkeypatch.setenv("PIP_INDEX_URL", serve(tmp_path / "index", authority))
    with pytest.raises(FileNotFoundError, match="certificate was not accepted; name .*SSL_CERT_F"):
        fetch()
    monkeypatch.setattr(clients, "BUNDLES", ("/no/such/file", str(authority)))
    assert "py3" in fetch()


def test_certificate_that_is_set_for_pip(fetch, tmp_path, serve, authority, monkeypatch):
    write_wheel(tmp_path / "index", "foo")
    monkeypatch.setenv("PIP_INDEX_URL", serve(tmp_path / "index", authority))
    monkeypatch.setenv("PIP_CERT", str(authority))
    assert "py3" in fetch()


def test_own_downloads_trust_the_same(bare, tmp_path, serve, authority, monkeypatch):
    address = serve(tmp_path, authority)
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.build_opener().open(address)  # `urlopen` keeps the first one's certificates
    monkeypatch.setattr(clients, "BUNDLES", (str(authority),))
    monkeypatch.setenv("SSL_CERT_FILE", "")  # so that it is taken back after the test
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "")
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    clients.trust_certificates()
    with urllib.request.build_opener().open(address) as answer:
        assert answer.status == 200
    # the hub's client, which reads the certificates when it is made
    code = "import huggingface_hub; print(huggingface_hub.HfApi().model_info('a/b').sha)"
    (tmp_path / "api/models/a").mkdir(parents=True)
    (tmp_path / "api/models/a/b").write_text('{"id": "a/b", "sha": "123"}')
    env = {**os.environ, "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0"}
    printed = subprocess.check_output([sys.executable, "-c", code], env=env, text=True)
    assert printed == "123\n"
