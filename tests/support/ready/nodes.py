"""A server that forks workers of a Ray cluster's nodes: what Ray imports of other packages is there.

It is a ready process itself. Ray is not imported: its library reads once, when it is loaded, which job a
worker is for.
"""

from __future__ import annotations

import gc
import importlib
import sys
from contextlib import suppress

from support.ready.forking import serve

OF_RAY = (
    "filelock",
    "google.protobuf.descriptor_pb2",
    "google.protobuf.internal.builder",
    "google.protobuf.json_format",
    "google.protobuf.struct_pb2",
    "google.protobuf.timestamp_pb2",
    "jsonschema",
    "logging.handlers",
    "msgpack",
    "pdb",
    "requests",
    "tqdm.auto",
)


def warm() -> None:
    """Import them; Ray may need other ones some day."""
    gc.disable()
    for name in OF_RAY:
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
    gc.enable()


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder
    warm()
    serve(sys.argv[1])
