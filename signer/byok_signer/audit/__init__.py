"""The signer's audit trail: sinks that make records durable, and the limit on recorded refusals."""

from byok_signer.audit.media import Tail, read_head
from byok_signer.audit.refusals import RefusalLimiter
from byok_signer.audit.sinks import MAX_LAG, MAX_PENDING, AuditCounts, AuditSink, FileAuditSink, StdoutAuditSink

__all__ = [
    "MAX_LAG",
    "MAX_PENDING",
    "AuditCounts",
    "AuditSink",
    "FileAuditSink",
    "RefusalLimiter",
    "StdoutAuditSink",
    "Tail",
    "read_head",
]
