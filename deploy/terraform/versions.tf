terraform {
  # 1.11: write-only arguments, so that the database password reaches neither state nor plan.
  required_version = ">= 1.11"

  required_providers {
    # Every argument here is checked against the schema of 6.50.0 (tests/terraform_schema.json).
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
    # 3.7: passwords that exist for one run only.
    random = {
      source  = "hashicorp/random"
      version = "~> 3.7"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
  # The billing budget's API asks for a project that pays for the call when a person runs Terraform.
  billing_project       = var.project
  user_project_override = true
}

data "google_project" "this" {
  project_id = var.project
}

resource "google_project_service" "needed" {
  for_each = toset(concat(
    [
      "aiplatform.googleapis.com",       # the models
      "artifactregistry.googleapis.com", # the image
      "iam.googleapis.com",              # the account
      "iamcredentials.googleapis.com",   # signing links without a key file
      "monitoring.googleapis.com",       # the alerts
      "run.googleapis.com",              # the service
      "secretmanager.googleapis.com",    # the secrets
      "storage.googleapis.com",          # the audio
    ],
    local.postgresql ? ["sqladmin.googleapis.com"] : [],
    var.billing_account != "" ? ["billingbudgets.googleapis.com"] : [],
  ))

  service = each.value
  # Other things in the project may use them too.
  disable_on_destroy = false
}
