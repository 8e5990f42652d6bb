output "url" {
  description = "Where callers reach the gateway."
  value       = local.public_url
}

output "service_url" {
  description = "What Cloud Run calls it; compare it with url when that was not given."
  value       = google_cloud_run_v2_service.gateway.uri
}

output "repository" {
  description = "Where images are pushed to."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${var.name}"
}

output "audio_bucket" {
  description = "Where audio lies."
  value       = google_storage_bucket.audio.name
}

output "service_account" {
  description = "Who the gateway is."
  value       = google_service_account.gateway.email
}

output "database" {
  description = "The connection name of Cloud SQL, for the Auth Proxy; null with SQLite."
  value       = one(google_sql_database_instance.gateway[*].connection_name)
}

output "backup" {
  description = "Where Litestream copies to; null with PostgreSQL."
  value       = one([for bucket in google_storage_bucket.backup : "gs://${bucket.name}/gateway"])
}
