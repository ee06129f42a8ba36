"""Keeps the signer's CA and serving certificate in two Secrets of the release namespace.

The chart makes the Secrets, empty; the operator has the right to read and to update just these. Each write names the
resourceVersion that was read, so that one who no longer leads undoes nothing.
"""

import base64
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from cryptography import x509

from byok_operator.certificates import (
    BUNDLE,
    CERTIFICATE,
    KEY,
    Demands,
    Observed,
    Pair,
    Publication,
    is_early,
    kept_in,
    pem_of,
    plan_authority,
    plan_serving,
)
from byok_operator.issuing import issue_serving, make_authority, pem_of_key
from byok_operator.metrics import Metrics
from byok_service.kubernetes import CONFLICT, NOT_FOUND, ApiError, JsonObject, KubernetesApi, KubernetesError
from byok_service.kubernetes_resources import SECRETS

_LOG = logging.getLogger(__name__)
CA_SECRET: Final = "byok-signer-ca"  # noqa: S105 - a name
TLS_SECRET: Final = "byok-signer-tls"  # noqa: S105 - a name
PUBLISHED_ANNOTATION: Final = "byok.dev/ca-published"
"""Of TLS_SECRET: SHA-256 of the newest CA certificate, and since when all consumers have had it."""


class CertificateKeeper:
    """For the leader only, which has it `refresh`ed now and then."""

    def __init__(
        self,
        api: KubernetesApi,
        namespace: str,
        demands: Demands,
        *,
        now: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self.bundle: bytes | None = None
        """CA certificates to be trusted, in PEM, as the Secret last held them; None before the first look."""
        self.problems: tuple[str, ...] = ()
        """What went wrong at the last look."""
        self._api = api
        self._namespace = namespace
        self._demands = demands
        self._now = now
        self._metrics = metrics

    async def refresh(self, known: bytes | None) -> None:
        """Look once, and make what is due; `known` is the bundle that all consumers have, None if they differ."""
        try:
            self.problems = await self._keep(known)
        except _RefusedError as refused:
            self.problems = (str(refused),)
        except KubernetesError as error:
            self.problems = (f"the signer's certificates could not be looked after: {error}; it is tried again",)

    async def _keep(self, known: bytes | None) -> tuple[str, ...]:
        now = self._now()
        of_authority, of_serving = await self._read(CA_SECRET), await self._read(TLS_SECRET)
        serving = kept_in(_data(of_serving))
        plan = plan_authority(kept_in(_data(of_authority)), serving, now)
        authority = plan.current or make_authority(now=now)
        if plan.changed:
            await self._write(of_authority, {**_pair(authority), BUNDLE: pem_of(plan.predecessors)})
        if plan.renew:
            _LOG.info("made a CA for the signer", extra=_told(plan.renew, authority))
        observed = Observed(
            serving,
            authority.certificate,
            plan.predecessors,
            _publication(of_serving),
            is_everywhere=known is not None and known == pem_of(serving.bundle),
            now=now,
            demands=self._demands,
        )
        served = await self._keep_serving(of_serving, observed, authority)
        expires = served.not_valid_after_utc if served else None
        self._metrics.signer_certificates(ca=authority.certificate.not_valid_after_utc, serving=expires)
        found = ((CA_SECRET, authority.certificate), (TLS_SECRET, served))
        return tuple(self._earliness(name, each) for name, each in found if each and is_early(each, now))

    def _earliness(self, name: str, certificate: x509.Certificate) -> str:
        return (
            f"the certificate in Secret {self._namespace}/{name} is not valid before"
            f" {certificate.not_valid_before_utc.isoformat()}, by this machine's clock: set the clock right, or that of"
            " the one that led before"
        )

    async def _keep_serving(self, secret: JsonObject, observed: Observed, authority: Pair) -> x509.Certificate | None:
        """Write what is due; give the certificate that is then served."""
        plan, served, bundle = plan_serving(observed), observed.serving.certificate, pem_of(observed.bundle)
        if plan.issue:
            pair = issue_serving(authority, observed.demands.names, now=observed.now)
            served = pair.certificate
            await self._write(secret, {**_pair(pair), BUNDLE: bundle}, plan.publication)
            _LOG.info("made a certificate for the signer", extra=_told(plan.issue, pair))
        elif plan.changed:
            await self._write(secret, {BUNDLE: bundle}, plan.publication)
        self.bundle = bundle
        return served

    async def _read(self, name: str) -> JsonObject:
        try:
            return await self._api.get(SECRETS, self._namespace, name)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise self._refusal(name, "read", error) from None
        # The operator has no right to create Secrets: it would be one to create any.
        raise _RefusedError(
            f"Secret {self._namespace}/{name} is missing; the chart makes it, empty: run helm upgrade again, or"
            f" kubectl -n {self._namespace} create secret generic {name}"
        )

    async def _write(
        self, secret: JsonObject, data: Mapping[str, bytes], publication: Publication | None = None
    ) -> None:
        metadata = dict(secret["metadata"])
        if publication is not None:
            metadata["annotations"] = {**(metadata.get("annotations") or {}), PUBLISHED_ANNOTATION: str(publication)}
        encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
        try:
            await self._api.replace(SECRETS, {**secret, "metadata": metadata, "data": {**_data(secret), **encoded}})
        except ApiError as error:
            raise self._refusal(metadata["name"], "updated", error) from None

    def _refusal(self, name: str, done: str, error: ApiError) -> "_RefusedError":
        what = f"Secret {self._namespace}/{name} could not be {done}"
        if error.status == CONFLICT:
            return _RefusedError(f"{what}: somebody else wrote it at the same time; it is tried again")
        return _RefusedError(
            f"{what}: {error.message}; Role byok-operator-certificates of the chart gives the right to, and the Secret"
            " must not be immutable"
        )


class _RefusedError(Exception):
    """Nothing more can be done before somebody has done something; the message says what."""


def _data(secret: JsonObject) -> dict[str, Any]:
    data = secret.get("data")
    return data if isinstance(data, dict) else {}


def _pair(pair: Pair) -> dict[str, bytes]:
    return {CERTIFICATE: pem_of([pair.certificate]), KEY: pem_of_key(pair.key)}


def _publication(secret: JsonObject) -> Publication | None:
    annotations = secret["metadata"].get("annotations") or {}
    return Publication.parse(str(annotations.get(PUBLISHED_ANNOTATION, "")))


def _told(why: str, pair: Pair) -> dict[str, str]:
    return {"cause": why, "not_after": pair.certificate.not_valid_after_utc.isoformat()}
