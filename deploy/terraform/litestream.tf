# SQLite: its copy. Litestream runs in the same container, sends each second what was written, and brings the database
# back when an instance starts. Apart from the audio, so that whoever may read one need not read the other.
resource "google_storage_bucket" "backup" {
  # checkov:skip=CKV_GCP_62: one account writes here, and nobody reads but to restore
  # checkov:skip=CKV_GCP_78: Litestream keeps its own history, and soft delete a week of it
  count = local.sqlite ? 1 : 0

  name     = "${var.project}-${var.name}-backup"
  location = var.region
  labels   = var.labels

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  # Litestream keeps a week; another one in which a deletion can be taken back.
  soft_delete_policy {
    retention_duration_seconds = 7 * 86400
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_storage_bucket_iam_member" "backup" {
  count = local.sqlite ? 1 : 0

  bucket = google_storage_bucket.backup[0].name
  role   = "roles/storage.objectUser"
  member = google_service_account.gateway.member
}
