output "bucket" {
  description = "Where the log files are."
  value       = aws_s3_bucket.logs.id
}

output "arn" {
  description = "The trail's ARN, for aws cloudtrail validate-logs."
  value       = aws_cloudtrail.byok.arn
}
