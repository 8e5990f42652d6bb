# Workers apart from the service, where tasks shall neither slow requests down nor end with an instance that scaling
# takes away. The same image: a gateway that nobody reaches, and that runs tasks and webhooks.
resource "google_cloud_run_v2_worker_pool" "workers" {
  count = var.worker_instances > 0 ? 1 : 0

  name                = "${var.name}-workers"
  location            = var.region
  labels              = var.labels
  deletion_protection = var.deletion_protection

  # By hand: how many tasks may run is what the models' quota allows, and processors tell nothing about that.
  scaling {
    scaling_mode          = "MANUAL"
    manual_instance_count = var.worker_instances
  }

  template {
    service_account = google_service_account.gateway.email
    labels          = var.labels

    containers {
      name  = "gateway"
      image = var.image

      resources {
        limits = {
          cpu    = tostring(var.cpu)
          memory = "${var.memory_mib}Mi"
        }
      }

      dynamic "env" {
        for_each = local.worker_settings
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = local.shared_secrets
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

      volume_mounts {
        name       = "cloudsql"
        mount_path = "/cloudsql"
      }
    }

    volumes {
      name = "cloudsql"
      cloud_sql_instance {
        instances = [google_sql_database_instance.gateway[0].connection_name]
      }
    }
  }

  # The service migrates the database; workers that came first would wait for it, and find it newer when they roll back.
  depends_on = [google_cloud_run_v2_service.gateway]
}
