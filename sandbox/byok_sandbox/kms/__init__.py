"""An emulated AWS KMS, with the parts of STS that its callers need, for plain boto3 and the AWS command line."""
