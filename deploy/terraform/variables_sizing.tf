# How large it is, and how long things may take. What has to fit together is checked here, before anything is made.

variable "cpu" {
  description = "Processors of an instance. A gateway is one process, and more than 2 helps nothing but audio."
  type        = number
  default     = 1

  validation {
    condition     = contains([1, 2], var.cpu)
    error_message = "1 or 2; more work needs more instances."
  }
}

variable "memory_mib" {
  description = "Memory of an instance in MiB. The disk of an instance is memory too."
  type        = number
  default     = 1024

  # 160: 70 idle, 20 for sixteen large answers at once, 25 for the libraries of audio, and a third of that to spare.
  validation {
    condition = var.memory_mib >= (
      160 + var.spool_mib + (var.test_keys ? 230 : 0) + (var.database == "sqlite" ? var.sqlite_mib : 0)
    )
    error_message = "Too little: 160, spool_mib, 230 with test_keys and sqlite_mib with SQLite have to fit."
  }
  validation {
    condition     = var.memory_mib >= 512 && var.memory_mib <= 4096 * var.cpu
    error_message = "The second generation needs 512, and a processor takes 4096 at most."
  }
}

variable "spool_mib" {
  description = "GATEWAY_SPOOL_MIB: audio that waits for storage. It lies in memory."
  type        = number
  default     = 256

  validation {
    condition     = var.spool_mib >= 64 && floor(var.spool_mib) == var.spool_mib
    error_message = "At least 64."
  }
}

variable "sqlite_mib" {
  description = "MiB for the SQLite database, its log and Litestream, in memory. Not used with postgresql."
  type        = number
  default     = 256

  validation {
    condition     = var.sqlite_mib >= 64
    error_message = "At least 64."
  }
}

variable "test_keys" {
  description = "GATEWAY_TEST_KEYS: whether mg_test_ keys may make tasks, for which an emulator runs in the instance."
  type        = bool
  default     = true
}

variable "min_instances" {
  description = "Instances that always run. At least one: tasks and webhooks go on when nobody asks."
  type        = number
  default     = 1

  validation {
    condition     = var.min_instances >= 1 && var.min_instances <= var.max_instances
    error_message = "At least 1 and at most max_instances: without any instance no task would go on."
  }
}

variable "max_instances" {
  description = "Instances at most."
  type        = number
  default     = 4

  validation {
    condition     = var.max_instances >= 1 && (var.database == "postgresql" || var.max_instances == 1)
    error_message = "SQLite is one instance: set max_instances to 1, or database to postgresql."
  }
}

variable "request_concurrency" {
  description = "Requests of an instance at once. Most wait for music and cost next to nothing meanwhile."
  type        = number
  default     = 500

  validation {
    condition     = var.request_concurrency >= 1 && var.request_concurrency <= 1000
    error_message = "1 to 1000."
  }
}

variable "task_concurrency" {
  description = "GATEWAY_CONCURRENCY: tasks of an instance at once."
  type        = number
  default     = 8

  validation {
    condition     = var.task_concurrency >= 1 && var.task_concurrency <= 1000
    error_message = "1 to 1000."
  }
}

variable "worker_instances" {
  description = "Instances of a worker pool that runs all tasks; 0: the service runs them."
  type        = number
  default     = 0

  validation {
    condition     = var.worker_instances == 0 || (var.worker_instances >= 1 && var.database == "postgresql")
    error_message = "A worker pool shares the service's database, so it needs postgresql."
  }
}

variable "stopped" {
  description = "SQLite only: no instance at all, which an upgrade needs in between (README)."
  type        = bool
  default     = false

  validation {
    condition     = !var.stopped || var.database == "sqlite"
    error_message = "With PostgreSQL the old and the new instances may run side by side."
  }
}

variable "request_timeout_s" {
  description = "Seconds after which Cloud Run ends a request with 504."
  type        = number
  default     = 600

  validation {
    condition     = var.request_timeout_s >= 60 && var.request_timeout_s <= 3600
    error_message = "60 to 3600."
  }
}

variable "wait_s" {
  description = "GATEWAY_WAIT_S: seconds after which a POST that waits is answered 202."
  type        = number
  default     = 270

  validation {
    condition     = var.wait_s >= 0 && var.wait_s + 30 <= var.request_timeout_s
    error_message = "30 less than request_timeout_s, so that the gateway answers 202 before Cloud Run answers 504."
  }
}

variable "stream_s" {
  description = "GATEWAY_STREAM_S: seconds after which a stream of events ends, to be resumed."
  type        = number
  default     = 570

  validation {
    condition     = var.stream_s >= 1 && var.stream_s + 30 <= var.request_timeout_s
    error_message = "30 less than request_timeout_s, so that streams end and are not cut."
  }
}

variable "call_timeout_s" {
  description = "GATEWAY_CALL_TIMEOUT_S: seconds of one call to a model; no request waits for it, so it may be longer."
  type        = number
  default     = 180

  validation {
    condition     = var.call_timeout_s >= 1 && var.call_timeout_s <= 3600
    error_message = "1 to 3600."
  }
}

variable "database_instance" {
  description = "Name of the Cloud SQL instance; empty: NAME-db. A restore to a moment makes one of another name."
  type        = string
  default     = ""
}

variable "database_tier" {
  description = "The machine of Cloud SQL."
  type        = string
  default     = "db-custom-1-3840"

  validation {
    condition     = can(regex("^db-(custom-[0-9]+-[0-9]+|f1-micro|g1-small)$", var.database_tier))
    error_message = "As db-custom-CPUS-MEMORY_MIB; the tiers of Enterprise Plus are another edition."
  }
}

variable "database_regional" {
  description = "Whether a standby in another zone takes over. It doubles the price of the database."
  type        = bool
  default     = false
}

variable "database_pool" {
  description = "GATEWAY_DATABASE_POOL: connections that an instance keeps."
  type        = number
  default     = 5

  validation {
    condition     = var.database_pool >= 1 && var.database_pool <= 200
    error_message = "1 to 200."
  }
}

variable "database_connections" {
  description = "max_connections of the database."
  type        = number
  default     = 100

  # While a new revision takes over there are twice as many instances; one connection listens, one makes reports.
  validation {
    condition = var.database_connections >= (
      10 + 2 * (var.max_instances + var.worker_instances) * (var.database_pool + 2)
    )
    error_message = "10 + 2 × (max_instances + worker_instances) × (database_pool + 2) have to fit."
  }
}

variable "database_password_version" {
  description = "Raise it to give the database another password."
  type        = number
  default     = 1
}
