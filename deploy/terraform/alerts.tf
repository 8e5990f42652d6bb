# What somebody is to be told of. deploy/README.md says of each what to do.
resource "google_monitoring_notification_channel" "emails" {
  for_each = toset(var.alert_emails)

  display_name = each.value
  type         = "email"
  labels = {
    email_address = each.value
  }

  depends_on = [google_project_service.needed]
}

locals {
  of_service = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = \"${var.name}\""
  of_workers = join(" AND ", [
    "resource.type = \"cloud_run_worker_pool\"",
    "resource.labels.worker_pool_name = \"${var.name}-workers\"",
  ])
  of_database = join(" AND ", [
    "resource.type = \"cloudsql_database\"",
    "resource.labels.database_id = \"${var.project}:${local.database_instance}\"",
  ])

  # Metrics above a threshold for as long as `for_s`.
  service_alerts = merge(
    {
      memory = {
        metric    = "run.googleapis.com/container/memory/utilizations"
        threshold = 0.9
        for_s     = 300
        aligner   = "ALIGN_PERCENTILE_99"
        reducer   = "REDUCE_MAX"
        says      = "An instance uses 90 % of its memory. Raise memory_mib, or lower spool_mib or task_concurrency."
      }
      processor = {
        metric    = "run.googleapis.com/container/cpu/utilizations"
        threshold = 0.9
        for_s     = 900
        aligner   = "ALIGN_PERCENTILE_50"
        reducer   = "REDUCE_MAX"
        says      = "Processors are busy for a quarter of an hour. Raise max_instances, or let a worker pool run tasks."
      }
    },
    # Where as many always run as may, that is no news.
    var.max_instances > var.min_instances ? {
      instances = {
        metric    = "run.googleapis.com/container/instance_count"
        threshold = var.max_instances - 0.5
        for_s     = 900
        aligner   = "ALIGN_MAX"
        reducer   = "REDUCE_SUM"
        says      = "As many instances run as may; what comes beyond is answered 429 by Cloud Run. Raise max_instances."
      }
    } : {},
  )

  database_alerts = {
    database_disk = {
      metric    = "cloudsql.googleapis.com/database/disk/utilization"
      threshold = 0.85
      for_s     = 600
      aligner   = "ALIGN_MAX"
      reducer   = "REDUCE_MAX"
      says      = "The database's disk is nearly full and has not grown. Look at its quota, and at retention."
    }
    database_processor = {
      metric    = "cloudsql.googleapis.com/database/cpu/utilization"
      threshold = 0.9
      for_s     = 900
      aligner   = "ALIGN_MEAN"
      reducer   = "REDUCE_MAX"
      says      = "The database is busy. Raise database_tier; a restart of a minute goes with it."
    }
    database_connections = {
      metric    = "cloudsql.googleapis.com/database/postgresql/num_backends"
      threshold = var.database_connections * 0.9
      for_s     = 300
      aligner   = "ALIGN_MAX"
      reducer   = "REDUCE_SUM"
      says      = "Connections run out. Lower database_pool or max_instances, or raise database_connections."
    }
  }

  metric_alerts = merge(
    { for name, alert in local.service_alerts : name => merge(alert, { of = local.of_service }) },
    { for name, alert in local.database_alerts : name => merge(alert, { of = local.of_database }) if local.postgresql },
  )

  # What in the log is a reason to get up.
  log_alerts = merge(
    {
      deployment_broken = {
        finds = "jsonPayload.message =~ \"deployment .* is broken\""
        says  = "A model's deployment fails. Its own words are in the lines before; tasks wait and are tried again."
      }
      misconfigured = {
        finds = "jsonPayload.code = \"model_misconfigured\""
        says  = "A permission or a name is wrong: see roles/aiplatform.user, GATEWAY_PROJECT, GATEWAY_LOCATION."
      }
      not_signed = {
        finds = "jsonPayload.message =~ \"signBlob|IAM Service Account Credentials API\""
        says  = "Links cannot be signed: the account lacks roles/iam.serviceAccountTokenCreator on itself."
      }
    },
    # Litestream's lines have a level, the gateway's a severity.
    local.sqlite ? {
      not_copied = {
        finds = "jsonPayload.level = \"ERROR\""
        says  = "Litestream does not copy the database; what is written now would be lost with the instance."
      }
    } : {},
  )
}

resource "google_monitoring_alert_policy" "metrics" {
  for_each = local.metric_alerts

  display_name          = "${var.name}: ${replace(each.key, "_", " ")}"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = [for channel in google_monitoring_notification_channel.emails : channel.id]
  user_labels           = var.labels

  conditions {
    display_name = each.key
    condition_threshold {
      filter          = "${each.value.of} AND metric.type = \"${each.value.metric}\""
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.threshold
      duration        = "${each.value.for_s}s"
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = each.value.aligner
        cross_series_reducer = each.value.reducer
      }
    }
  }

  documentation {
    content = each.value.says
  }

  depends_on = [google_project_service.needed]
}

# One in twenty answers is a 5xx: the gateway's own, or Cloud Run's when it has no instance.
resource "google_monitoring_alert_policy" "errors" {
  display_name          = "${var.name}: errors"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = [for channel in google_monitoring_notification_channel.emails : channel.id]
  user_labels           = var.labels

  conditions {
    display_name = "5xx of all answers"
    condition_threshold {
      filter = join(" AND ", [
        local.of_service,
        "metric.type = \"run.googleapis.com/request_count\"",
        "metric.labels.response_code_class = \"5xx\"",
      ])
      denominator_filter = "${local.of_service} AND metric.type = \"run.googleapis.com/request_count\""
      comparison         = "COMPARISON_GT"
      threshold_value    = 0.05
      duration           = "300s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_RATE"
        cross_series_reducer = "REDUCE_SUM"
      }
      denominator_aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_RATE"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = "More than 5 % of answers are 5xx. Their codes are in the log; /readyz tells of database and storage."
  }

  depends_on = [google_project_service.needed]
}

# It is always billed, so when it is billed nothing it is not there.
resource "google_monitoring_alert_policy" "gone" {
  display_name          = "${var.name}: gone"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = [for channel in google_monitoring_notification_channel.emails : channel.id]
  user_labels           = var.labels

  conditions {
    display_name = "no instance"
    condition_absent {
      filter   = "${local.of_service} AND metric.type = \"run.googleapis.com/container/billable_instance_time\""
      duration = "600s"
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_RATE"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = "No instance runs: the newest revision does not become ready. Roll back, then read its log."
  }

  depends_on = [google_project_service.needed]
}

resource "google_monitoring_alert_policy" "logs" {
  for_each = local.log_alerts

  display_name          = "${var.name}: ${replace(each.key, "_", " ")}"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = [for channel in google_monitoring_notification_channel.emails : channel.id]
  user_labels           = var.labels

  conditions {
    display_name = each.key
    condition_matched_log {
      # In the log's filters OR binds more than AND.
      filter = "((${local.of_service}) OR (${local.of_workers})) AND ${each.value.finds}"
    }
  }

  # At most every half hour, and closed by itself: a log tells of no end.
  alert_strategy {
    auto_close = "3600s"
    notification_rate_limit {
      period = "1800s"
    }
  }

  documentation {
    content = each.value.says
  }

  depends_on = [google_project_service.needed]
}
