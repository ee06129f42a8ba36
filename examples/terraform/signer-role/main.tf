# The signer's AWS identity: ServiceAccount byok-signer, and nobody else, gets this role. By itself it may do nothing with
# any key; the owners' key policies let it.

locals {
  issuer = var.oidc_provider_arn == null ? "" : element(split("oidc-provider/", var.oidc_provider_arn), 1)
}

data "aws_iam_policy_document" "trust" {
  dynamic "statement" {
    for_each = var.oidc_provider_arn[*]

    content {
      sid     = "Irsa"
      actions = ["sts:AssumeRoleWithWebIdentity"]

      principals {
        type        = "Federated"
        identifiers = [statement.value]
      }

      condition {
        test     = "StringEquals"
        variable = "${local.issuer}:sub"
        values   = ["system:serviceaccount:${var.namespace}:byok-signer"]
      }

      condition {
        test     = "StringEquals"
        variable = "${local.issuer}:aud"
        values   = ["sts.amazonaws.com"]
      }
    }
  }

  dynamic "statement" {
    for_each = var.pod_identity_cluster[*]

    content {
      sid     = "PodIdentity"
      actions = ["sts:AssumeRole", "sts:TagSession"]

      principals {
        type        = "Service"
        identifiers = ["pods.eks.amazonaws.com"]
      }

      condition {
        test     = "StringEquals"
        variable = "aws:RequestTag/eks-cluster-arn"
        values   = [statement.value.arn]
      }

      condition {
        test     = "StringEquals"
        variable = "aws:RequestTag/kubernetes-namespace"
        values   = [var.namespace]
      }

      condition {
        test     = "StringEquals"
        variable = "aws:RequestTag/kubernetes-service-account"
        values   = ["byok-signer"]
      }
    }
  }
}

resource "aws_iam_role" "signer" {
  name               = var.name
  description        = "byok-signer of namespace ${var.namespace}"
  assume_role_policy = data.aws_iam_policy_document.trust.json

  lifecycle {
    precondition {
      condition     = var.oidc_provider_arn != null || var.pod_identity_cluster != null
      error_message = "Set oidc_provider_arn (IRSA) or pod_identity_cluster (EKS Pod Identity): else nobody gets this role."
    }
  }
}

data "aws_iam_policy_document" "use" {
  # Across accounts both sides must allow: the key policy there, and this one.
  dynamic "statement" {
    for_each = length(var.foreign_key_arns) > 0 ? [var.foreign_key_arns] : []

    content {
      sid       = "KeysOfOtherAccounts"
      actions   = ["kms:GetPublicKey", "kms:Sign"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = length(var.key_role_arns) > 0 ? [var.key_role_arns] : []

    content {
      sid       = "RolesOfKeys"
      actions   = ["sts:AssumeRole", "sts:TagSession"]
      resources = statement.value
    }
  }
}

resource "aws_iam_role_policy" "use" {
  count = length(var.foreign_key_arns) + length(var.key_role_arns) > 0 ? 1 : 0

  name   = "byok"
  role   = aws_iam_role.signer.id
  policy = data.aws_iam_policy_document.use.json
}

resource "aws_eks_pod_identity_association" "signer" {
  count = var.pod_identity_cluster == null ? 0 : 1

  cluster_name    = var.pod_identity_cluster.name
  namespace       = var.namespace
  service_account = "byok-signer"
  role_arn        = aws_iam_role.signer.arn
}
