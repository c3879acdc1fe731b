# SPDX-License-Identifier: Apache-2.0
"""Container images as an OCI archive, written as a stream and without an engine or a registry.

`cluster_images.py` says what is in them; `node_tier.py` feeds the stream to containerd.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture() -> str:
    """This machine's processor in the words of OCI and Go."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


@dataclass(frozen=True, slots=True)
class Layer:
    """An uncompressed tar file and its sha256."""

    path: Path
    digest: str

    @classmethod
    def of(cls, path: Path) -> "Layer":
        """Reads the digest kept beside the file by `seal`."""
        return cls(path, _digest_file(path).read_text())


def seal(half: Path, path: Path) -> Layer:
    """Gives a finished tar file its final name, its digest first: neither is ever half there."""
    with half.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    _digest_file(path).write_text(digest)
    half.rename(path)
    return Layer(path, digest)


def _digest_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


@dataclass(frozen=True, slots=True)
class Image:
    """A name with a tag, layers from the lowest, and the part of the config that people know."""

    name: str
    layers: tuple[Layer, ...]
    config: dict[str, Any] = field(default_factory=dict)


def write_archive(images: Iterable[Image], out: IO[bytes]) -> None:
    """Writes one archive with all the images; a layer that several share is in it once."""
    blobs: dict[str, bytes | Path] = {}
    manifests = [_manifest(image, blobs) for image in images]
    index = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    with tarfile.open(fileobj=out, mode="w|") as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(archive, "index.json", index)
        for digest, content in blobs.items():
            _add(archive, f"blobs/sha256/{digest}", content)


def _manifest(image: Image, blobs: dict[str, bytes | Path]) -> dict[str, Any]:
    config = {
        "architecture": architecture(),
        "os": "linux",
        "config": image.config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{it.digest}" for it in image.layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _put(blobs, json.dumps(config).encode(), _CONFIG),
        "layers": list(_put_layers(blobs, image.layers)),
    }
    descriptor = _put(blobs, json.dumps(manifest).encode(), _MANIFEST)
    names = {"io.containerd.image.name": image.name}
    return {**descriptor, "annotations": names}


def _put(blobs: dict[str, bytes | Path], content: bytes, kind: str) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    blobs[digest] = content
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}


def _put_layers(
    blobs: dict[str, bytes | Path], layers: Iterable[Layer]
) -> Iterator[dict[str, Any]]:
    for layer in layers:
        blobs[layer.digest] = layer.path
        size = layer.path.stat().st_size
        yield {"mediaType": _LAYER, "digest": f"sha256:{layer.digest}", "size": size}


def _add(archive: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    entry = tarfile.TarInfo(name)
    if isinstance(content, Path):
        entry.size = content.stat().st_size
        with content.open("rb") as stream:
            archive.addfile(entry, stream)
    else:
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
