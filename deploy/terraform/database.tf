# PostgreSQL, which many instances share.
resource "google_sql_database_instance" "gateway" {
  # checkov:skip=CKV_GCP_60: the address is closed to networks, see connector_enforcement; the socket needs no VPC
  # checkov:skip=CKV_GCP_108: what connects is Google's connector, its host tells nothing
  # checkov:skip=CKV_GCP_109: the default is that already
  # checkov:skip=CKV_GCP_110: who did what is in the gateway's own audit log
  # checkov:skip=CKV_GCP_111: statements would bring prompts into the log
  # checkov:skip=CKV2_GCP_13: a line for each of several hundred statements a second
  count = local.postgresql ? 1 : 0

  name   = local.database_instance
  region = var.region
  # What the tests run on.
  database_version = "POSTGRES_18"
  # Against Terraform, and below against everybody else.
  deletion_protection = var.deletion_protection

  settings {
    # Said, because of newer versions the default is the dearer one.
    edition                     = "ENTERPRISE"
    tier                        = var.database_tier
    availability_type           = var.database_regional ? "REGIONAL" : "ZONAL"
    disk_type                   = "PD_SSD"
    disk_size                   = 10
    disk_autoresize             = true
    deletion_protection_enabled = var.deletion_protection
    user_labels                 = var.labels

    # An address, but no network may use it: only Google's connectors, which ask IAM and bring a certificate.
    connector_enforcement = "REQUIRED"
    ip_configuration {
      ipv4_enabled = true
      ssl_mode     = "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"
    }

    # Any second of the last week can be brought back.
    backup_configuration {
      enabled                        = true
      start_time                     = "03:00"
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = 7
      backup_retention_settings {
        retained_backups = 14
      }
    }

    # Its restarts are 503s for a minute: Sunday, before anybody works.
    maintenance_window {
      day          = 7
      hour         = 4
      update_track = "stable"
    }

    insights_config {
      query_insights_enabled = true
      # The gateway's statements have parameters; prompts are never in their text.
      record_client_address = false
    }

    database_flags {
      name  = "max_connections"
      value = tostring(var.database_connections)
    }
    dynamic "database_flags" {
      for_each = local.database_iam ? ["on"] : []
      content {
        name  = "cloudsql.iam_authentication"
        value = database_flags.value
      }
    }
    # Who waits for whom, when requests answer 503; who comes and goes; what is written at once.
    database_flags {
      name  = "log_checkpoints"
      value = "on"
    }
    database_flags {
      name  = "log_connections"
      value = "on"
    }
    database_flags {
      name  = "log_disconnections"
      value = "on"
    }
    database_flags {
      name  = "log_lock_waits"
      value = "on"
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_sql_database" "gateway" {
  count = local.postgresql ? 1 : 0

  name     = var.name
  instance = google_sql_database_instance.gateway[0].name
  charset  = "UTF8"
  # With the instance, which is protected; PostgreSQL refuses to drop a database that somebody is connected to.
  deletion_policy = "ABANDON"
}

resource "google_sql_user" "gateway" {
  count = local.postgresql ? 1 : 0

  name                = var.name
  instance            = google_sql_database_instance.gateway[0].name
  password_wo         = ephemeral.random_password.database.result
  password_wo_version = var.database_password_version
  # It owns the tables, so it cannot be dropped before them.
  deletion_policy = "ABANDON"
}

# Opening the connector's socket. The password is asked for besides.
resource "google_project_iam_member" "database" {
  count = local.postgresql ? 1 : 0

  project = var.project
  role    = "roles/cloudsql.client"
  member  = google_service_account.gateway.member
}

# Without a password: the gateway's own account, known to PostgreSQL by the name that IAM gives it there.
resource "google_sql_user" "account" {
  count = local.database_iam ? 1 : 0

  name     = local.database_account
  instance = google_sql_database_instance.gateway[0].name
  type     = "CLOUD_IAM_SERVICE_ACCOUNT"
  # It owns the tables, as the other one does without IAM.
  deletion_policy = "ABANDON"
}

resource "google_project_iam_member" "database_login" {
  count = local.database_iam ? 1 : 0

  project = var.project
  role    = "roles/cloudsql.instanceUser"
  member  = google_service_account.gateway.member
}
