"""What the signer's rules work with, put together by the process and by tests."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from byok_signer.access import Access
from byok_signer.audit import AuditSink
from byok_signer.authentication import Authenticator
from byok_signer.entries import Catalogue
from byok_signer.kms.port import Kms
from byok_signer.metrics import Metrics
from byok_signer.quota import Quotas


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The pipeline's surroundings."""

    catalogue: Callable[[], Catalogue]
    authenticator: Authenticator
    access: Access
    kms: Kms
    quotas: Quotas
    audit: AuditSink
    metrics: Metrics
    now: Callable[[], datetime]
    clock: Callable[[], float]
    """Seconds that never go back."""
    catalogue_confirmed_at: Callable[[], float]
    """When the catalogue's source was last heard of, by `clock`; infinity where that cannot age."""
