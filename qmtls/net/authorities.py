"""The system's certificate authorities: where OpenSSL reads them, so that a change of them is noticed.

Looked at are all places that it may read; which of them it does depends on the environment and on how OpenSSL was
built. In a directory a file that comes, goes or is replaced counts, as `update-ca-certificates` does it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from OpenSSL import SSL, _util


def system_authorities(environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Files and directories, whether they exist or not."""
    file, directories = environment.get("SSL_CERT_FILE"), environment.get("SSL_CERT_DIR")
    built = _built_in()
    if file is None and directories is None:
        return built
    named = (file or str(built[0]), *(directories or str(built[1])).split(os.pathsep))
    return tuple(Path(name) for name in named if name)


@cache
def _built_in() -> tuple[Path, ...]:
    """File and directory that OpenSSL was built with, then those that pyOpenSSL reads where these cannot be meant."""
    lib: Any = _util.lib
    text = _util.ffi.string
    own = (text(lib.X509_get_default_cert_file()), text(lib.X509_get_default_cert_dir()))
    # pyOpenSSL does not name them in its interface: without them a change there needs a HUP.
    files, places = getattr(SSL, "_CERTIFICATE_FILE_LOCATIONS", ()), getattr(SSL, "_CERTIFICATE_PATH_LOCATIONS", ())
    return tuple(dict.fromkeys(Path(os.fsdecode(name)) for name in (*own, *files, *places)))
