variable "name" {
  description = "Name of the trail."
  type        = string
  default     = "byok"
}

variable "bucket" {
  description = "Name of the bucket to make for its log files."
  type        = string
}
