# A key that signs C2PA claims, and for its owner's side of the contract: who may use it, and with which algorithm.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  kms_algorithm = coalesce(var.kms_algorithm, {
    ECC_NIST_P256         = "ECDSA_SHA_256"
    ECC_NIST_P384         = "ECDSA_SHA_384"
    ECC_NIST_P521         = "ECDSA_SHA_512"
    ECC_NIST_EDWARDS25519 = "ED25519_SHA_512"
    RSA_2048              = "RSASSA_PSS_SHA_256"
    RSA_3072              = "RSASSA_PSS_SHA_256"
    RSA_4096              = "RSASSA_PSS_SHA_256"
  }[var.key_spec])

  # Ed25519 signs the message itself, all others its digest.
  message_type = var.key_spec == "ECC_NIST_EDWARDS25519" ? "RAW" : "DIGEST"

  user = var.external_id == null ? var.signer_role_arn : aws_iam_role.key[0].arn
  tags = var.external_id == null ? {} : {
    byok-cluster   = var.external_id.installation
    byok-namespace = var.external_id.namespace
    byok-key       = var.external_id.name
  }
}

data "aws_iam_policy_document" "key" {
  # IAM policies of this account may let people administer the key, and let nobody sign with it.
  statement {
    sid = "Administration"
    actions = [
      "kms:CancelKeyDeletion",
      "kms:CreateAlias",
      "kms:DeleteAlias",
      "kms:DescribeKey",
      "kms:DisableKey",
      "kms:EnableKey",
      "kms:GetKeyPolicy",
      "kms:GetKeyRotationStatus",
      "kms:GetPublicKey",
      "kms:ListGrants",
      "kms:ListKeyPolicies",
      "kms:ListResourceTags",
      "kms:PutKeyPolicy",
      "kms:ReplicateKey",
      "kms:RevokeGrant",
      "kms:ScheduleKeyDeletion",
      "kms:TagResource",
      "kms:UntagResource",
      "kms:UpdateAlias",
      "kms:UpdateKeyDescription",
      "kms:UpdatePrimaryRegion",
    ]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root"]
    }
  }

  statement {
    sid       = "ByokPublicKey"
    actions   = ["kms:GetPublicKey"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = [local.user]
    }

    dynamic "condition" {
      for_each = local.tags

      content {
        test     = "StringEquals"
        variable = "aws:PrincipalTag/${condition.key}"
        values   = [condition.value]
      }
    }
  }

  # Both conditions are keys of Sign alone, so that GetPublicKey has a statement of its own. Only symmetric operations
  # have an encryption context, so that there is none to demand.
  statement {
    sid       = "ByokSign"
    actions   = ["kms:Sign"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = [local.user]
    }

    condition {
      test     = "StringEquals"
      variable = "kms:SigningAlgorithm"
      values   = [local.kms_algorithm]
    }

    condition {
      test     = "StringEquals"
      variable = "kms:MessageType"
      values   = [local.message_type]
    }

    dynamic "condition" {
      for_each = local.tags

      content {
        test     = "StringEquals"
        variable = "aws:PrincipalTag/${condition.key}"
        values   = [condition.value]
      }
    }
  }
}

resource "aws_kms_key" "signing" {
  description              = "C2PA signing key ${var.alias}"
  key_usage                = "SIGN_VERIFY"
  customer_master_key_spec = var.key_spec
  multi_region             = var.multi_region
  policy                   = data.aws_iam_policy_document.key.json
  deletion_window_in_days  = var.deletion_window_in_days

  lifecycle {
    # A key that is destroyed is gone for good, and with it what its certificate is for.
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "signing" {
  name          = "alias/${var.alias}"
  target_key_id = aws_kms_key.signing.key_id
}

data "aws_iam_policy_document" "trust" {
  count = var.external_id == null ? 0 : 1

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "AWS"
      identifiers = [var.signer_role_arn]
    }

    condition {
      test     = "StringEquals"
      variable = "sts:ExternalId"
      values   = ["byok:${var.external_id.installation}:${var.external_id.namespace}/${var.external_id.name}"]
    }

    dynamic "condition" {
      for_each = local.tags

      content {
        test     = "StringEquals"
        variable = "aws:RequestTag/${condition.key}"
        values   = [condition.value]
      }
    }
  }

  # AssumeRole with tags asks the policy for both.
  statement {
    actions = ["sts:TagSession"]

    principals {
      type        = "AWS"
      identifiers = [var.signer_role_arn]
    }

    dynamic "condition" {
      for_each = local.tags

      content {
        test     = "StringEquals"
        variable = "aws:RequestTag/${condition.key}"
        values   = [condition.value]
      }
    }
  }
}

resource "aws_iam_role" "key" {
  count = var.external_id == null ? 0 : 1

  name               = "byok-${var.alias}"
  description        = "Assumed by the signer for ByokKey ${var.external_id.namespace}/${var.external_id.name}"
  assume_role_policy = data.aws_iam_policy_document.trust[0].json
}
