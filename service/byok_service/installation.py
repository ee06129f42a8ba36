"""What an installation decides about keys and recipes: the settings that signer and operator must both be given."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict

from byok_service.setting_types import File, Installation, Name, Namespace, Setting, Sha256, Terms


class InstallationSettings(BaseModel):
    """The part of the table that both services have; equal in both, or `status` says what the signer does not do."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    installation: Annotated[
        Installation,
        Setting(
            "NAME", "This installation's name in external ids, byok:NAME:<namespace>/<key>; unique to the cluster."
        ),
    ]
    presets_namespace: Annotated[
        Namespace, Setting("NAMESPACE", "Where parents of recipes are looked for first; its names are reserved.")
    ] = "byok-system"
    managed_key: Annotated[
        Name | None,
        Setting("NAMESPACE/NAME", "ByokKey behind recipes with kmsMode managed; without it they cannot sign."),
    ] = None
    required_terms: Annotated[
        Terms | None,
        Setting("TERMS", "Terms that each ByokKey must acknowledge, as its acknowledgement.terms; unset: none."),
    ] = None
    required_terms_sha256: Annotated[
        Sha256 | None,
        Setting("HASH", "SHA-256 of the terms' text, as acknowledgement.termsSHA256 must give it; unset: none."),
    ] = None
    key_ownership: Annotated[
        File | None,
        Setting("FILE", "YAML file: for each namespace the ARN patterns (with *) that its ByokKeys may name."),
    ] = None
    require_external_id: Annotated[
        bool,
        Setting("true|false", "Refuse keys for which no role is assumed, and so no external id is demanded."),
    ] = False
