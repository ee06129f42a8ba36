variable "name" {
  description = "Name of the role."
  type        = string
  default     = "byok-signer"
}

variable "namespace" {
  description = "The release namespace, in which ServiceAccount byok-signer is."
  type        = string
  default     = "byok-system"
}

variable "oidc_provider_arn" {
  description = "IRSA: ARN of the cluster's IAM OIDC provider. Leave it out for EKS Pod Identity alone."
  type        = string
  default     = null
}

variable "pod_identity_cluster" {
  description = "EKS Pod Identity: name and ARN of the cluster, which runs the eks-pod-identity-agent add-on. Leave it out for IRSA alone."
  type = object({
    name = string
    arn  = string
  })
  default = null
}

variable "foreign_key_arns" {
  description = "Key ARNs of other accounts that the role uses itself. A key of the role's own account needs nothing here: its key policy decides."
  type        = list(string)
  default     = []
}

variable "key_role_arns" {
  description = "Roles that ByokKeys name in spec.aws.assumeRole, or the installation in aws.role."
  type        = list(string)
  default     = []
}
