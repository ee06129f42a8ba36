variable "alias" {
  description = "Alias of the key, without alias/. For people: ByokKey names the key's ARN."
  type        = string
}

variable "key_spec" {
  description = "Key spec, which C2PA allows. ECC_NIST_EDWARDS25519 needs a release of the provider that knows it."
  type        = string
  default     = "ECC_NIST_P256"

  validation {
    condition = contains([
      "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_NIST_EDWARDS25519", "RSA_2048", "RSA_3072", "RSA_4096",
    ], var.key_spec)
    error_message = "key_spec must be one that C2PA allows: ECC_NIST_P256, _P384, _P521, ECC_NIST_EDWARDS25519, RSA_2048, _3072, _4096."
  }
}

variable "kms_algorithm" {
  description = "KMS's name of the algorithm to sign with. Left out: the key spec's own, RSASSA_PSS_SHA_256 (PS256) for RSA."
  type        = string
  default     = null
}

variable "multi_region" {
  description = "Make it a multi-Region key (mrk-...), which can be replicated. Cannot be changed later."
  type        = bool
  default     = false
}

variable "signer_role_arn" {
  description = "The signer's role; the platform team knows it."
  type        = string
}

variable "external_id" {
  description = "Have the signer use a role of this account with an external id, in place of its own role: installation's name, and namespace and name of the ByokKey."
  type = object({
    installation = string
    namespace    = string
    name         = string
  })
  default = null
}

variable "deletion_window_in_days" {
  description = "Days between the key's scheduled deletion and its end, 7 to 30. Nobody can bring a deleted key back."
  type        = number
  default     = 30
}
