locals {
  postgresql = var.database == "postgresql"
  sqlite     = var.database == "sqlite"

  database_iam     = local.postgresql && var.database_iam
  database_account = trimsuffix(google_service_account.gateway.email, ".gserviceaccount.com")

  audio_bucket = var.audio_bucket != "" ? var.audio_bucket : "${var.project}-${var.name}-audio"

  database_instance = var.database_instance != "" ? var.database_instance : "${var.name}-db"

  # What Cloud Run calls it is known before it is there.
  own_url    = "https://${var.name}-${data.google_project.this.number}.${var.region}.run.app"
  public_url = var.public_url != "" ? var.public_url : local.own_url

  proxies = coalesce(var.trusted_proxies, var.public ? 1 : 2)

  # Alike on everything that shares the database, as README.md asks.
  shared_settings = merge(
    {
      GATEWAY_PROJECT        = var.project
      GATEWAY_LOCATION       = var.model_location
      GATEWAY_STORAGE_URL    = "gs://${google_storage_bucket.audio.name}/audio"
      GATEWAY_PUBLIC_URL     = local.public_url
      GATEWAY_SPOOL_MIB      = tostring(var.spool_mib)
      GATEWAY_TEST_KEYS      = var.test_keys ? "on" : "off"
      GATEWAY_CALL_TIMEOUT_S = tostring(var.call_timeout_s)
      GATEWAY_DATABASE_POOL  = tostring(var.database_pool)
      # Each keeps a core busy; more than there are would slow requests down.
      GATEWAY_AUDIO_WORKERS = tostring(var.cpu)
      # Cloud Run kills 10 seconds after SIGTERM. With SQLite, Litestream needs some of them after the gateway.
      GATEWAY_GRACE_S    = local.sqlite ? "5" : "8"
      GATEWAY_LOG_FORMAT = "json"
    },
    var.settings,
  )

  service_settings = merge(local.shared_settings, {
    # Less than the request's timeout: a slow POST is answered 202, and a stream ends by itself.
    GATEWAY_WAIT_S   = tostring(var.wait_s)
    GATEWAY_STREAM_S = tostring(var.stream_s)
    # None where a worker pool runs them.
    GATEWAY_CONCURRENCY     = tostring(var.worker_instances > 0 ? 0 : var.task_concurrency)
    GATEWAY_TRUSTED_PROXIES = tostring(local.proxies)
  })

  worker_settings = merge(local.shared_settings, {
    GATEWAY_CONCURRENCY = tostring(var.task_concurrency)
    # Nobody reaches a worker; what is not there needs no guard.
    GATEWAY_ADMIN_API = "off"
  })

  # Variable to secret and version. Versions are numbers, so that a revision keeps its secrets and a roll back has them.
  shared_secrets = merge(
    {
      GATEWAY_SIGNING_SECRET = {
        secret  = google_secret_manager_secret.signing_secret.secret_id
        version = var.signing_secret_version
      }
    },
    local.postgresql ? {
      GATEWAY_DATABASE_URL = {
        secret  = google_secret_manager_secret.database_url[0].secret_id
        version = google_secret_manager_secret_version.database_url[0].version
      }
    } : {},
  )

  service_secrets = merge(
    local.shared_secrets,
    var.admin_token_version != "0" ? {
      GATEWAY_ADMIN_TOKEN = {
        secret  = google_secret_manager_secret.admin_token.secret_id
        version = var.admin_token_version
      }
    } : {},
  )
}
