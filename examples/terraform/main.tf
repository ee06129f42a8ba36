# The modules put together: an installation on EKS and one key with a replica in a second Region, all in one account.
# Platform team and key owner each take the module that is theirs.

variable "region" {
  description = "Region of the key."
  type        = string
  default     = "eu-central-1"
}

variable "replica_region" {
  description = "Region of the key's replica."
  type        = string
  default     = "eu-west-1"
}

variable "oidc_provider_arn" {
  description = "ARN of the cluster's IAM OIDC provider."
  type        = string
}

variable "log_bucket" {
  description = "Name of the bucket to make for CloudTrail's files."
  type        = string
}

provider "aws" {
  region = var.region
}

provider "aws" {
  alias  = "replica"
  region = var.replica_region
}

module "signer_role" {
  source = "./signer-role"

  oidc_provider_arn = var.oidc_provider_arn
}

module "brand" {
  source = "./signing-key"

  alias           = "brand"
  multi_region    = true
  signer_role_arn = module.signer_role.arn
}

resource "aws_kms_replica_key" "brand" {
  provider = aws.replica

  description             = "Replica of brand"
  primary_key_arn         = module.brand.arn
  policy                  = module.brand.policy
  deletion_window_in_days = 30
}

module "trail" {
  source = "./trail"

  bucket = var.log_bucket
}

output "chart_values" {
  description = "Values for the chart."
  value       = module.signer_role.values
}

output "byok_key" {
  description = "spec.aws of the ByokKey."
  value       = module.brand.aws
}

output "replica" {
  description = "For spec.aws.replicas of the ByokKey."
  value       = aws_kms_replica_key.brand.arn
}
