# Where audio lies, for as long as tasks say.
resource "google_storage_bucket" "audio" {
  # checkov:skip=CKV_GCP_62: Cloud Audit Logs tell who read what, where somebody wants to know
  # checkov:skip=CKV_GCP_78: versions would keep what was deleted
  name     = local.audio_bucket
  location = var.region
  labels   = var.labels

  # Rights by IAM alone, none for the public: links are signed.
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  # A bucket with somebody's music is not deleted along with the rest.
  force_destroy = false

  # No versions, and by default no soft delete: what a task's deletion removes is to be gone.
  versioning {
    enabled = false
  }
  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_days * 86400
  }

  # Parts of uploads that were never finished cost money and are seen by nobody.
  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }

  # The gateway deletes by tenants' terms. This is for a rule that holds whatever those say.
  dynamic "lifecycle_rule" {
    for_each = var.audio_days > 0 ? [var.audio_days] : []
    content {
      action {
        type = "Delete"
      }
      condition {
        age = lifecycle_rule.value
      }
    }
  }

  # Only for scripts that fetch audio, and draw or cut it; players need none of this.
  dynamic "cors" {
    for_each = length(var.cors_origins) > 0 ? [var.cors_origins] : []
    content {
      origin          = cors.value
      method          = ["GET", "HEAD"]
      response_header = ["Accept-Ranges", "Content-Length", "Content-Range", "Content-Type"]
      max_age_seconds = 3600
    }
  }

  depends_on = [google_project_service.needed]
}

# The image.
resource "google_artifact_registry_repository" "images" {
  # checkov:skip=CKV_GCP_84: nothing in the image is secret
  repository_id = var.name
  location      = var.region
  format        = "DOCKER"
  description   = "Images of the music gateway"
  labels        = var.labels

  docker_config {
    # A version stays what it was, which a roll back relies on.
    immutable_tags = true
  }

  # Untagged layers go after a month, the ten newest images never.
  cleanup_policies {
    id     = "keep-ten"
    action = "KEEP"
    most_recent_versions {
      keep_count = 10
    }
  }
  cleanup_policies {
    id     = "drop-untagged"
    action = "DELETE"
    condition {
      tag_state  = "UNTAGGED"
      older_than = "2592000s"
    }
  }

  depends_on = [google_project_service.needed]
}
