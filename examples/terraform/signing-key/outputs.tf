output "arn" {
  description = "The key's ARN."
  value       = aws_kms_key.signing.arn
}

output "policy" {
  description = "The key policy, for a replica, which has one of its own."
  value       = data.aws_iam_policy_document.key.json
}

output "aws" {
  description = "spec.aws of the ByokKey."
  value = yamlencode(merge(
    { keyArn = aws_kms_key.signing.arn },
    var.external_id == null ? {} : { assumeRole = { arn = aws_iam_role.key[0].arn } },
  ))
}
