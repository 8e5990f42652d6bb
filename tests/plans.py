"""A plan of an endpoint, valid by default; a test says what it is about."""

from gateway.provisioning.plan import Place, Plan

IMAGE = "us-central1-docker.pkg.dev/acme-music/containers/musicgen:1"
PLACE = Place("acme-music", "us-central1")


def a_plan(**changes: object) -> Plan:
    fields: dict[str, object] = {
        "place": PLACE, "name": "musicgen", "image": IMAGE, "licence": "cc-by-nc-4.0", "weights_uri": None,
        "output_uri": None, "machine_type": "g2-standard-8", "accelerator": "NVIDIA_L4",
        "accelerator_count": 1, "min_replicas": 1, "max_replicas": 1, "dedicated": True,
        "inference_timeout_s": 600, "service_account": None,
    }  # fmt: skip
    return Plan(**(fields | changes))
