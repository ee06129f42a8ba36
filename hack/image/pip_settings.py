#!/usr/bin/env python3
"""Writes this machine's package index, its credentials and its CA into a folder, for a build to mount as secrets.

`pip_settings.py FOLDER` writes FOLDER/pip (a pip.conf) and FOLDER/ca (CA certificates, empty if the machine names
none). Nothing is printed: an index's URL may hold a password.
"""

import ast
import configparser
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

CARRIED = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")
"""Settings that mean the same elsewhere; others name files of this machine, or how it installs."""
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
"""Where pip or what it stands on looks when `cert` is not set, and what else says that a CA is added."""
CA_IN_BUILD = "/run/secrets/ca"
USAGE = 2


def main(arguments: list[str]) -> int:
    """Write both files, readable by their owner only; exit status 2 for wrong arguments."""
    if len(arguments) != 1:
        sys.stderr.write("usage: pip_settings.py FOLDER\n")
        return USAGE
    folder = Path(arguments[0])
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True)
    settings = parse(listed.stdout)
    ca_file = ca_of(settings, os.environ)
    _write(folder / "ca", ca_file.read_bytes() if ca_file else b"")
    _write(folder / "pip", pip_conf(settings, with_ca=ca_file is not None).encode())
    return 0


def parse(listed: str) -> dict[str, str]:
    """Read what `pip config list` prints, in which a later source wins: files, then the environment."""
    settings = {}
    for line in listed.splitlines():
        name, separator, value = line.partition("=")
        scope, _, key = name.partition(".")
        # Settings of one command, such as install.no-binary, are not carried.
        if separator and scope in {"global", "install", ":env:"}:
            settings[key] = str(ast.literal_eval(value))
    return settings


def ca_of(settings: Mapping[str, str], environ: Mapping[str, str]) -> Path | None:
    """Find the CA certificates that pip trusts here, if it does not trust its own."""
    named = [settings.get("cert"), *(environ.get(name) for name in CA_VARIABLES)]
    return next((Path(path) for path in named if path and Path(path).is_file()), None)


def pip_conf(settings: Mapping[str, str], *, with_ca: bool) -> str:
    """Render the pip.conf of a build."""
    lines = {key: settings[key] for key in CARRIED if key in settings}
    if with_ca:
        lines["cert"] = CA_IN_BUILD
    # Of several values on lines of their own, pip wants the following ones indented.
    body = "".join(f"{key} = {value.strip().replace(chr(10), chr(10) + '    ')}\n" for key, value in lines.items())
    text = f"[global]\n{body}"
    configparser.RawConfigParser().read_string(text)
    return text


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
