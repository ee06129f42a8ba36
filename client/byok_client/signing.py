"""Signing one asset from beginning to end, whatever the transport; it runs in a thread of its own.

The native library swallows exceptions, Ctrl-C's included, and truncates its target on failure. So it never runs in the
main thread, never sees the target, and its success counts only if nothing was recorded against it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, TypedDict

import c2pa

from byok_api.errors import Reason, Refusal
from byok_api.signer.v1.signer_pb2 import SignClaimRequest, SignClaimResponse
from byok_client.answers import REBUILD
from byok_client.assets import Asset, PathOrStream, opened
from byok_client.callback import SigningCallback
from byok_client.composition import SETTINGS, Composition, compose
from byok_client.memory import Memory
from byok_client.metadata import Circumstances, settle
from byok_client.recipes import Recipe
from byok_client.storage import native_error, no_room_for_copy
from byok_client.switch import Switch
from byok_client.targets import Target, target_for
from byok_client.watched import Watched

CLIENT = f"byok-client/{version('byok-operator')}"
"""Name and version of this software, the generator of an asset that names none."""

_FINDINGS_SHOWN = 5
_UNTRUSTED = "signingCredential.untrusted"  # nobody gave trust anchors, so this says nothing


class SignOptions(TypedDict, total=False):
    """What `sign` takes beyond source, recipe, metadata and output."""

    title: str
    """Title in the manifest; the file name if not given."""
    overwrite: bool
    """Replace an output that exists; in place (the same path, or no output) needs no leave. Default false."""
    allow_invalid_input: bool
    """Sign an asset whose own manifest does not verify, and keep that as its history. Default false."""


@dataclass(frozen=True)
class SigningResult:
    """What was signed, by which key, and where the audit record is."""

    output: Path | None
    """Where the signed asset is; None if it went to a stream."""
    manifest_id: str
    claim_sha256: str
    recipe: str
    """The recipe as namespace/name@version."""
    recipe_hash: str
    key: str
    """The ByokKey as namespace/name."""
    key_arn: str
    algorithm: str
    audit_id: str
    kms_request_id: str
    verifier_url: str | None


@dataclass(frozen=True)
class Job:
    """One asset to sign."""

    source: PathOrStream
    recipe: str
    metadata: Mapping[str, object]
    client_defaults: Mapping[str, object]
    output: PathOrStream | None
    verifier_url: str | None
    options: SignOptions = field(default_factory=SignOptions)


class Remote(Protocol):
    """The signer as this module needs it, blocking; over grpc and over grpc.aio."""

    def recipe(self, reference: str, switch: Switch, *, fresh: bool) -> Recipe:
        """Get a recipe, from the store unless `fresh`; Refusal."""

    def sign_claim(self, request: SignClaimRequest, switch: Switch) -> SignClaimResponse:
        """Have a claim signed; Refusal."""


def sign_asset(job: Job, remote: Remote, memory: Memory, switch: Switch) -> SigningResult:
    """Sign, and put the result in its place only if all went well; Refusal, or CalledOff."""
    with (
        opened(job.source) as asset,
        target_for(asset, job.output, overwrite=_option(job, "overwrite")) as target,
        memory.room_for(asset.size, switch),
    ):
        recipe = remote.recipe(job.recipe, switch, fresh=False)
        has_parent = _has_parent(asset, switch, allow_invalid=_option(job, "allow_invalid_input"))
        work = _Work(asset, target, remote, switch, has_parent)
        try:
            signed = _sign_once(job, recipe, work)
        except Refusal as refusal:
            if refusal.reason not in REBUILD:
                raise
            recipe = remote.recipe(job.recipe, switch, fresh=True)
            target.restart()
            signed = _sign_once(job, recipe, work)
        switch.check()  # the last time: from here on the asset is signed, whoever gives up
        return _result(job, recipe, signed, target.place())


def _option(job: Job, name: str) -> bool:
    return bool(job.options.get(name, False))


@dataclass(frozen=True)
class _Work:
    asset: Asset
    target: Target
    remote: Remote
    switch: Switch
    has_parent: bool


def _sign_once(job: Job, recipe: Recipe, work: _Work) -> SignClaimResponse:
    media = work.asset.media
    if recipe.media_type not in {"", media.kind}:
        raise Refusal(
            Reason.MediaTypeMismatch,
            f"{work.asset.name} is {media.mime}, but {recipe} is for {recipe.media_type}",
        )
    circumstances = Circumstances(datetime.now(UTC), CLIENT, work.has_parent)
    values = settle(recipe, job.metadata, job.client_defaults, circumstances)
    title = job.options.get("title", work.asset.title)
    composition = compose(recipe, values, title=title, has_parent=work.has_parent)
    callback = SigningCallback(recipe, lambda request: work.remote.sign_claim(request, work.switch))
    _embed(composition, callback, work)
    if callback.signed is None:
        raise Refusal(Reason.SigningFailed, f"{work.asset.name}: the C2PA library asked for no signature")
    return callback.signed


def _has_parent(asset: Asset, switch: Switch, *, allow_invalid: bool) -> bool:
    source = Watched(asset.stream, switch)
    try:
        reader = _reader(asset, source)
    except c2pa.C2paError as error:
        switch.check()
        if source.error is not None:
            raise _unread(asset, source.error) from error
        if _is_unreadable(error):
            raise _unreadable(asset, error) from error
        if not allow_invalid:
            raise _input_invalid(asset, str(error)) from error
        return True
    if reader is None:
        return False
    with reader:
        if reader.get_validation_state() != "Invalid" or allow_invalid:
            return True
        active = (reader.get_validation_results() or {}).get("activeManifest", {})
        codes = [failure["code"] for failure in active.get("failure", []) if failure["code"] != _UNTRUSTED]
    raise _input_invalid(asset, ", ".join(codes[:_FINDINGS_SHOWN]))


def _reader(asset: Asset, source: Watched) -> c2pa.Reader | None:
    source.seek(0)
    with c2pa.Context.from_dict(dict(SETTINGS)) as context:
        return c2pa.Reader.try_create(asset.media.mime, source, None, context)


def _input_invalid(asset: Asset, why: str) -> Refusal:
    return Refusal(
        Reason.InputManifestInvalid,
        f"{asset.name} has a manifest that does not verify ({why}); pass allow_invalid_input to keep it as history",
    )


def _embed(composition: Composition, callback: SigningCallback, work: _Work) -> None:
    source, sink = Watched(work.asset.stream, work.switch), Watched(work.target.file, work.switch)
    try:
        _build(composition, callback, source, sink, work.asset.media.mime)
    except c2pa.C2paError as error:
        work.switch.check()
        callback.raise_error()
        raise _what_befell(work, source, sink, error) or _failed(work.asset, callback, error) from error
    # Not every failure of a callback makes the library fail.
    work.switch.check()
    callback.raise_error()


def _what_befell(work: _Work, source: Watched, sink: Watched, error: c2pa.C2paError) -> Refusal | None:
    """Tell a file that could not be read or written from what is the library's own trouble."""
    if sink.error is not None:
        return work.target.unwritable(sink.error)
    if source.error is not None:
        return _unread(work.asset, source.error)
    copy = native_error(str(error))
    return no_room_for_copy(work.asset.name, copy) if copy is not None else None


def _failed(asset: Asset, callback: SigningCallback, error: c2pa.C2paError) -> Refusal:
    if _is_unreadable(error):
        return _unreadable(asset, error)
    authority = callback.timestamp_url
    stamped = f" (with a time stamp by {authority})" if authority else ""
    return Refusal(Reason.SigningFailed, f"{asset.name} could not be signed{stamped}: {error}")


def _build(
    composition: Composition,
    callback: SigningCallback,
    source: Watched,
    sink: Watched,
    mime: str,
) -> None:
    definition = json.dumps(composition.definition)
    with (
        callback.signer() as signer,
        c2pa.Context.from_dict(dict(SETTINGS)) as context,
        c2pa.Builder.from_json(definition, context=context) as builder,
    ):
        if composition.parent is not None:
            source.seek(0)
            builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
            builder.add_ingredient_from_stream(json.dumps(composition.parent), mime, source)
        source.seek(0)
        builder.sign(signer, mime, source, sink)


def _is_unreadable(error: c2pa.C2paError) -> bool:
    return isinstance(error, c2pa.C2paError.NotSupported) or "could not be parsed" in str(error)


def _unreadable(asset: Asset, error: c2pa.C2paError) -> Refusal:
    return Refusal(Reason.AssetUnreadable, f"{asset.name} is damaged or no {asset.media.mime}: {error}")


def _unread(asset: Asset, error: OSError) -> Refusal:
    return Refusal(Reason.AssetUnreadable, f"{asset.name} cannot be read: {error.strerror}")


def _result(job: Job, recipe: Recipe, signed: SignClaimResponse, output: Path | None) -> SigningResult:
    url = job.verifier_url
    return SigningResult(
        output=output,
        manifest_id=signed.manifest_id,
        claim_sha256=signed.claim_sha256,
        recipe=str(recipe),
        recipe_hash=signed.recipe_hash,
        key=signed.key,
        key_arn=signed.key_arn,
        algorithm=signed.algorithm,
        audit_id=signed.audit_id,
        kms_request_id=signed.kms_request_id,
        verifier_url=url.replace("{manifest_id}", signed.manifest_id) if url else None,
    )
