output "arn" {
  description = "The role's ARN: what key owners name as signer_role_arn."
  value       = aws_iam_role.signer.arn
}

output "values" {
  description = "Values for the chart."
  value = (
    var.pod_identity_cluster != null
    ? yamlencode({ aws = { podIdentity = true } })
    : yamlencode({ signer = { serviceAccount = { annotations = { "eks.amazonaws.com/role-arn" = aws_iam_role.signer.arn } } } })
  )
}
