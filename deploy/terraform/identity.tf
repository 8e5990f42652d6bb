# Who the gateway is. There is no key file: Cloud Run gives it this account's tokens.
resource "google_service_account" "gateway" {
  account_id   = var.name
  display_name = "Music gateway"

  depends_on = [google_project_service.needed]
}

# Calling the models.
resource "google_project_iam_member" "models" {
  project = var.project
  role    = "roles/aiplatform.user"
  member  = google_service_account.gateway.member
}

# Storing, reading and deleting audio: in its bucket and in no other. Signed links act with the same right.
resource "google_storage_bucket_iam_member" "audio" {
  bucket = google_storage_bucket.audio.name
  role   = "roles/storage.objectUser"
  member = google_service_account.gateway.member
}

# Signing links is signBlob on itself; without it tasks succeed and no link can be made.
resource "google_service_account_iam_member" "signs_as_itself" {
  service_account_id = google_service_account.gateway.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = google_service_account.gateway.member
}

# Who may call where an identity token is asked for. Never everybody: `invokers` refuses that.
resource "google_cloud_run_v2_service_iam_member" "invokers" {
  for_each = toset(var.invokers)

  name     = google_cloud_run_v2_service.gateway.name
  location = google_cloud_run_v2_service.gateway.location
  role     = "roles/run.invoker"
  member   = each.value
}
