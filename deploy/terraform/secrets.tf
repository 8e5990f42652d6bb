# Secrets, each readable by the gateway alone. Values are put in by hand, so that Terraform's state has none; but for
# the database's password, which passes through as a write-only argument and is kept neither in state nor in a plan.

# Signs what the gateway signs itself, and derives the secrets of webhooks: all instances need the same one.
resource "google_secret_manager_secret" "signing_secret" {
  secret_id = "${var.name}-signing-secret"
  labels    = var.labels

  replication {
    auto {}
  }

  depends_on = [google_project_service.needed]
}

resource "google_secret_manager_secret" "admin_token" {
  secret_id = "${var.name}-admin-token"
  labels    = var.labels

  replication {
    auto {}
  }

  depends_on = [google_project_service.needed]
}

resource "google_secret_manager_secret" "database_url" {
  count = local.postgresql ? 1 : 0

  secret_id = "${var.name}-database-url"
  labels    = var.labels

  replication {
    auto {}
  }

  depends_on = [google_project_service.needed]
}

# Per secret, not for the project.
resource "google_secret_manager_secret_iam_member" "signing_secret" {
  secret_id = google_secret_manager_secret.signing_secret.id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.gateway.member
}

resource "google_secret_manager_secret_iam_member" "admin_token" {
  secret_id = google_secret_manager_secret.admin_token.id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.gateway.member
}

resource "google_secret_manager_secret_iam_member" "database_url" {
  count = local.postgresql ? 1 : 0

  secret_id = google_secret_manager_secret.database_url[0].id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.gateway.member
}

# A new password each run, which is used only when database_password_version has changed.
ephemeral "random_password" "database" {
  length = 40
  # It stands in a URL.
  special = false
}

resource "google_secret_manager_secret_version" "database_url" {
  count = local.postgresql ? 1 : 0

  secret = google_secret_manager_secret.database_url[0].id
  # By IAM there is no password, and Google's connector in place of the socket.
  secret_data_wo = join("", [
    "postgresql+asyncpg://",
    local.database_iam ? local.database_account : "${var.name}:${ephemeral.random_password.database.result}",
    "@/${var.name}?${local.database_iam ? "cloud_sql=" : "host=/cloudsql/"}",
    google_sql_database_instance.gateway[0].connection_name,
  ])
  secret_data_wo_version = var.database_password_version
  # What was replaced opens nothing any more, and must be there for a revision that still asks for it to say so.
  deletion_policy = "DISABLE"

  lifecycle {
    create_before_destroy = true
  }
}
