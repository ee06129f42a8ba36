"""This signer's share of AWS's quotas, granted fairly; and what a key's owner allows."""

from byok_signer.quota.demands import Demand, Family, QuotaKey, family_of
from byok_signer.quota.lane import QUEUE_BOUND, Level
from byok_signer.quota.quotas import QuotaCounts, Quotas
from byok_signer.quota.replicas import Replicas, Resolve

__all__ = [
    "QUEUE_BOUND",
    "Demand",
    "Family",
    "Level",
    "QuotaCounts",
    "QuotaKey",
    "Quotas",
    "Replicas",
    "Resolve",
    "family_of",
]
