# What every installation has to say.

variable "project" {
  description = "The Google Cloud project, by its id."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project id has 6 to 30 small letters, digits and hyphens; it is not the number."
  }
}

variable "image" {
  description = "The image with its version, as REGION-docker.pkg.dev/PROJECT/gateway/gateway:1.2.3 or …@sha256:…."
  type        = string

  validation {
    condition     = can(regex("(:[^:/@]+|@sha256:[0-9a-f]{64})$", var.image)) && !endswith(var.image, ":latest")
    error_message = "Name a version or a digest: what \"latest\" is changes, and a roll back would bring nothing back."
  }
}

# What has a default.

variable "name" {
  description = "What the service, its account, its repository and the beginning of its secrets are called."
  type        = string
  default     = "gateway"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{4,20}[a-z0-9])$", var.name))
    error_message = "6 to 22 small letters, digits and hyphens: it names a service account too."
  }
}

variable "region" {
  description = "Where everything runs and lies."
  type        = string
  default     = "us-central1"
}

variable "model_location" {
  description = "Where Lyria 2 is called; it may differ from the region."
  type        = string
  default     = "us-central1"
}

variable "database" {
  description = "postgresql: Cloud SQL, many instances. sqlite: one instance, copied to a bucket by Litestream."
  type        = string
  default     = "postgresql"

  validation {
    condition     = contains(["postgresql", "sqlite"], var.database)
    error_message = "It is postgresql or sqlite."
  }
}

variable "database_iam" {
  description = "Whether the gateway logs in to Cloud SQL by IAM; its image needs the connector, see README."
  type        = bool
  default     = false
}

variable "public" {
  description = "Whether the internet reaches the service. If not, only networks inside and load balancers do."
  type        = bool
  default     = false
}

variable "invokers" {
  description = "Who may call it with an identity token besides the gateway's key. Empty: the key alone decides."
  type        = list(string)
  default     = []

  validation {
    condition     = length(setintersection(var.invokers, ["allUsers", "allAuthenticatedUsers"])) == 0
    error_message = "Name people, groups and accounts; for everybody leave it empty, and keys decide."
  }
}

variable "public_url" {
  description = "Where callers reach it, if not at the address that Cloud Run gives it."
  type        = string
  default     = ""

  validation {
    condition     = var.public_url == "" || startswith(var.public_url, "https://")
    error_message = "It begins with https://."
  }
}

variable "trusted_proxies" {
  description = "GATEWAY_TRUSTED_PROXIES, as a number; null: 1 where public (Cloud Run), else 2 (a load balancer)."
  type        = number
  default     = null
}

variable "settings" {
  description = "Further settings, as in README.md: { GATEWAY_LYRIA3 = \"on\" }. Secrets do not belong here."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^GATEWAY_[A-Z0-9_]+$", name))])
    error_message = "Settings begin with GATEWAY_."
  }
  validation {
    condition = length(setintersection(keys(var.settings), [
      "GATEWAY_ADMIN_TOKEN", "GATEWAY_API_KEY", "GATEWAY_DATABASE_URL", "GATEWAY_LIMITS_URL",
      "GATEWAY_OIDC_CLIENT_SECRET", "GATEWAY_SIGNING_SECRET",
      "GATEWAY_SPOOL_MIB", "GATEWAY_WAIT_S", "GATEWAY_STREAM_S", "GATEWAY_GRACE_S", "GATEWAY_CONCURRENCY",
      "GATEWAY_DATABASE_POOL", "GATEWAY_CALL_TIMEOUT_S", "GATEWAY_TEST_KEYS",
    ])) == 0
    error_message = "That is a secret, or has a variable of its own, which is checked against the others."
  }
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to delete the service, the worker pool and the database."
  type        = bool
  default     = true
}

variable "labels" {
  description = "Labels of everything that may have some, for the bill."
  type        = map(string)
  default     = {}
}

# Secrets: their values are put there by hand (README), only their versions are named here.

variable "signing_secret_version" {
  description = "Version of the secret NAME-signing-secret that runs."
  type        = string
  default     = "1"

  validation {
    condition     = can(regex("^[1-9][0-9]*$", var.signing_secret_version))
    error_message = "A number: with \"latest\" each instance would have what was newest when it started."
  }
}

variable "admin_token_version" {
  description = "Version of the secret NAME-admin-token that runs; 0: no token, the admin API is closed."
  type        = string
  default     = "0"

  validation {
    condition     = can(regex("^[0-9]+$", var.admin_token_version))
    error_message = "A number, or 0."
  }
}

# Audio.

variable "audio_bucket" {
  description = "Name of the bucket for audio; empty: PROJECT-NAME-audio."
  type        = string
  default     = ""
}

variable "audio_days" {
  description = "Days after which the bucket deletes audio, whatever tasks say; 0: never. See --retention-days."
  type        = number
  default     = 0

  validation {
    condition     = var.audio_days >= 0 && floor(var.audio_days) == var.audio_days
    error_message = "Whole days, or 0."
  }
}

variable "soft_delete_days" {
  description = "Days in which deleted audio can be brought back; 0: deleted is deleted. Otherwise 7 to 90."
  type        = number
  default     = 0

  validation {
    condition     = var.soft_delete_days == 0 || (var.soft_delete_days >= 7 && var.soft_delete_days <= 90)
    error_message = "0, or 7 to 90."
  }
}

variable "cors_origins" {
  description = "Origins whose scripts may fetch audio, as https://studio.example.com. <audio> needs none."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for origin in var.cors_origins : can(regex("^https?://[^/*]+$", origin))])
    error_message = "Origins have a scheme and a host, and neither a path nor a star."
  }
}

# Alerts.

variable "alert_emails" {
  description = "Who is told; nobody if empty, and the alerts are seen in the console only."
  type        = list(string)
  default     = []
}

variable "billing_account" {
  description = "The billing account of the budget alert, as 012345-6789AB-CDEF01; empty: no budget."
  type        = string
  default     = ""
}

variable "budget_units" {
  description = "Budget of a month in whole units of the billing account's currency."
  type        = number
  default     = 500

  validation {
    condition     = var.budget_units >= 1 && floor(var.budget_units) == var.budget_units
    error_message = "Whole units, at least 1."
  }
}
