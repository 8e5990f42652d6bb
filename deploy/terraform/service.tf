resource "google_cloud_run_v2_service" "gateway" {
  name                = var.name
  location            = var.region
  labels              = var.labels
  deletion_protection = var.deletion_protection

  ingress = var.public ? "INGRESS_TRAFFIC_ALL" : "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
  # Callers show the gateway's own keys. Where invokers are named, Cloud Run asks for an identity token as well.
  invoker_iam_disabled = length(var.invokers) == 0

  # SQLite: exactly one, or none while versions change. Otherwise Cloud Run scales between the template's bounds.
  scaling {
    scaling_mode          = local.sqlite ? "MANUAL" : "AUTOMATIC"
    manual_instance_count = local.sqlite ? (var.stopped ? 0 : 1) : null
  }

  template {
    service_account = google_service_account.gateway.email
    labels          = var.labels
    # Full Linux, with the system calls that a database and sockets want.
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    max_instance_request_concurrency = var.request_concurrency
    timeout                          = "${var.request_timeout_s}s"

    scaling {
      min_instance_count = var.min_instances
      max_instance_count = var.max_instances
    }

    containers {
      name  = "gateway"
      image = var.image

      ports {
        # HTTP/1: requests are small, and answers stream.
        name           = "http1"
        container_port = 8080
      }

      resources {
        limits = {
          cpu    = tostring(var.cpu)
          memory = "${var.memory_mib}Mi"
        }
        # Always allocated: tasks go on after their request was answered. With processor time only during requests
        # they would stand still, and lose their lease, whenever nobody is asking.
        cpu_idle = false
        # Half of a start is importing, and a start is what a burst waits for.
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = local.service_settings
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = local.service_secrets
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = env.value.secret
              version = env.value.version
            }
          }
        }
      }

      # Where the image of deploy/litestream copies the database to.
      dynamic "env" {
        for_each = local.sqlite ? ["gs://${google_storage_bucket.backup[0].name}/gateway"] : []
        content {
          name  = "LITESTREAM_URL"
          value = env.value
        }
      }

      dynamic "volume_mounts" {
        for_each = local.postgresql ? ["/cloudsql"] : []
        content {
          name       = "cloudsql"
          mount_path = volume_mounts.value
        }
      }

      # Ready once the database is migrated and storage answers; 240 seconds are the most there are.
      startup_probe {
        period_seconds    = 4
        timeout_seconds   = 3
        failure_threshold = 60
        http_get {
          path = "/readyz"
          port = 8080
        }
      }

      # Alive as long as the event loop turns. It must not ask the database or storage, or their trouble would restart
      # the gateway in the middle of paid work.
      liveness_probe {
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 3
        http_get {
          path = "/livez"
          port = 8080
        }
      }
    }

    dynamic "volumes" {
      for_each = local.postgresql ? [google_sql_database_instance.gateway[0].connection_name] : []
      content {
        name = "cloudsql"
        cloud_sql_instance {
          instances = [volumes.value]
        }
      }
    }
  }

  # Rights first: without them the first revision does not become ready.
  depends_on = [
    google_project_iam_member.database,
    google_project_iam_member.database_login,
    google_project_iam_member.models,
    google_secret_manager_secret_iam_member.admin_token,
    google_secret_manager_secret_iam_member.database_url,
    google_secret_manager_secret_iam_member.signing_secret,
    google_service_account_iam_member.signs_as_itself,
    google_sql_database.gateway,
    google_sql_user.account,
    google_sql_user.gateway,
    google_storage_bucket_iam_member.audio,
    google_storage_bucket_iam_member.backup,
  ]
}
