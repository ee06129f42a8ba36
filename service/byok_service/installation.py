"""What an installation decides about keys and recipes: the settings that signer and operator must both be given."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict

from byok_api.installation import Rules
from byok_api.ownership import KeyOwnership
from byok_service.setting_types import File, Installation, Name, Namespace, RoleArn, Setting, Sha256, Terms
from byok_service.settings import parsed


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
    aws_role: Annotated[
        RoleArn | None,
        Setting(
            "ARN", "Role assumed, with the key's external id, for each key that names none: every key then has one."
        ),
    ] = None

    def rules(self) -> Rules:
        """Make the rules that keys and recipes are judged by; SettingsError for a --key-ownership that is none."""
        return Rules(
            installation=self.installation,
            presets_namespace=self.presets_namespace,
            managed_key=self.managed_key,
            required_terms=self.required_terms,
            required_terms_sha256=self.required_terms_sha256,
            ownership=self._ownership(),
            require_external_id=self.require_external_id,
            default_role=self.aws_role,
        )

    def _ownership(self) -> KeyOwnership | None:
        if self.key_ownership is None:
            return None
        return parsed("--key-ownership", self.key_ownership, KeyOwnership.parse)
