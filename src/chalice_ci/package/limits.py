"""How large a package may be, and what makes it so large."""

from __future__ import annotations

from collections.abc import Sequence

from chalice_ci.errors import PackageError
from chalice_ci.package.archive import Written
from chalice_ci.package.manifest import Manifest

MAX_ZIPPED = 50 * 1024 * 1024
"""Lambda's limit for a zip that is uploaded directly."""
THROUGH_BUCKET = 250 * 1024 * 1024
"""A zip that Lambda takes from a bucket is bounded by what it unpacks to only."""
MAX_UNPACKED = 250 * 1024 * 1024
"""Lambda's limit for a function and its layers, unpacked."""

_LARGEST = 10
_WORTH_IT = 1024 * 1024
"""Bytes in the zip: to take out less is no help."""
_IN_LAMBDA = ("boto3", "botocore", "s3transfer", "jmespath", "urllib3", "six", "python-dateutil")


def check_size(
    written: Sequence[Written],
    manifest: Manifest,
    max_size: int | None,
    *,
    through_bucket: bool = False,
) -> None:
    """Compare the archives of one package with Lambda's limits and `max_size` (bytes, each zip).

    `through_bucket` says that the stage has a bucket for its packages.

    Raises PackageError with what is largest, by its part of what is over the limit.
    """
    most = THROUGH_BUCKET if through_bucket else MAX_ZIPPED
    limit = most if max_size is None else min(max_size, most)
    whose = "Lambda's limit" if limit == most else "the limit in chalice-ci.yml"
    direct = limit == MAX_ZIPPED and not through_bucket
    bucket = " Or configure `package-bucket` for the stage: packages go through S3 then."
    for one in written:
        if one.archive.size > limit:
            layer = "" if len(written) > 1 else "`automatic_layer` puts dependencies into a zip of "
            raise PackageError(
                f"the zip is {_megabytes(one.archive.size)}; {whose} is {_megabytes(limit)}. "
                f"The largest are: {_largest([one], packed=True)}.",
                where=f"package {one.archive.slot}",
                fix=_advice(manifest, [one])
                + (f" {layer}its own." if layer else "")
                + (bucket if direct else ""),
            )
    unpacked = sum(one.archive.unpacked_size for one in written)
    if unpacked > MAX_UNPACKED:
        raise PackageError(
            f"the package unpacks to {_megabytes(unpacked)}; Lambda's limit, layers included, is "
            f"{_megabytes(MAX_UNPACKED)}. The largest are: {_largest(written, packed=False)}.",
            where="package",
            fix=_advice(manifest, written),
        )


def _largest(written: Sequence[Written], *, packed: bool) -> str:
    """The largest dependencies and files of the project, with their sizes."""
    sizes: dict[str, int] = {}
    for one in written:
        for member, dependency in one.members:
            name = dependency or ascii(member.name)[1:-1][:120]
            sizes[name] = sizes.get(name, 0) + (member.packed if packed else member.size)
    first = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:_LARGEST]
    return ", ".join(f"{name} {_megabytes(size)}" for name, size in first)


def _advice(manifest: Manifest, written: Sequence[Written]) -> str:
    sizes: dict[str, int] = {}
    for one in written:
        for member, dependency in one.members:
            sizes[dependency] = sizes.get(dependency, 0) + member.packed
    known = {dependency.name for dependency in manifest.dependencies}
    brought = [name for name in sorted(known) if name in _IN_LAMBDA and name in sizes]
    if sum(sizes[name] for name in brought) >= _WORTH_IT:
        return (
            f"Take out what Lambda brings anyway ({', '.join(brought)}), and what is not used in "
            "`vendor/` and `chalicelib/`."
        )
    return "Take out dependencies and files in `vendor/` and `chalicelib/` that are not used."


def _megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MiB"
