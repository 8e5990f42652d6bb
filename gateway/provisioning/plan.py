"""What shall be deployed, and where. A plan that exists is one that Google can be asked for."""

import re
from dataclasses import dataclass

from gateway.errors import ConfigurationError

#: Seconds that Vertex AI gives a prediction ("Choose an endpoint type"): on a shared endpoint always, on a
#: dedicated one unless it is told otherwise, and at most.
SHARED_TIMEOUT_S = 60
DEDICATED_TIMEOUT_S = 600
LONGEST_TIMEOUT_S = 3600

#: Bytes that an answer may have there.
SHARED_ANSWER_BYTES = 1_500_000
DEDICATED_ANSWER_BYTES = 10_000_000

#: What `GATEWAY_MUSICGEN_LICENCE` says once the licence of the weights was read.
LICENCES = ("cc-by-nc-4.0", "own-weights")

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,47}[a-z0-9])?")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]*")
_LOCATION = re.compile(r"[a-z]+-[a-z]+[0-9]+")
_ENDPOINT = re.compile(r"projects/([^/]+)/locations/([^/]+)/endpoints/[A-Za-z0-9_-]+")
_IMAGE = re.compile(
    r"(?P<region>[a-z0-9-]+)-docker\.pkg\.dev/[^/\s]+/[^/\s]+/[^\s:@]+(?P<version>:[\w.-]+|@sha256:[0-9a-f]{64})?"
)
_MULTI_REGIONS = frozenset({"us", "europe", "asia"})
_BUCKET = re.compile(r"gs://[a-z0-9][a-z0-9._-]+[a-z0-9](/[^\s]*)?")
_ACCOUNT = re.compile(r"[^@\s]+@[^@\s]+\.gserviceaccount\.com")


@dataclass(frozen=True, slots=True)
class Place:
    """A project and a region. Raises `ConfigurationError` for what Google has no such names for."""

    project: str
    location: str

    def __post_init__(self) -> None:
        if not _PROJECT.fullmatch(self.project):
            raise ConfigurationError(
                "--project: name the Google Cloud project, here or with GATEWAY_PROJECT."
                if not self.project
                else f"--project: {self.project!r} is not a project id or number."
            )
        if not _LOCATION.fullmatch(self.location):
            raise ConfigurationError(
                f"--location: {self.location!r} is not a region such as us-central1; an endpoint is in one."
            )

    @classmethod
    def of(cls, endpoint: str) -> "Place":
        """Where an endpoint is, by its resource name. Raises `ConfigurationError`."""
        found = _ENDPOINT.fullmatch(endpoint)
        if found is None:
            raise ConfigurationError(
                f"ENDPOINT: {endpoint!r} is not projects/P/locations/L/endpoints/E; leave it out to look by "
                "--name."
            )
        return cls(found[1], found[2])

    @property
    def parent(self) -> str:
        return f"projects/{self.project}/locations/{self.location}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One model on one endpoint, both called ``name``. Raises `ConfigurationError`, naming the option."""

    place: Place
    name: str
    image: str
    licence: str
    weights_uri: str | None
    output_uri: str | None
    machine_type: str
    accelerator: str
    accelerator_count: int
    min_replicas: int
    max_replicas: int
    dedicated: bool
    inference_timeout_s: int
    service_account: str | None

    def __post_init__(self) -> None:
        check_name(self.name)
        _check_image(self.image, self.place.location)
        if self.licence not in LICENCES:
            raise ConfigurationError(_LICENCE_ADVICE)
        for option, uri in (("--weights", self.weights_uri), ("--output", self.output_uri)):
            if uri is not None and not _BUCKET.fullmatch(uri):
                raise ConfigurationError(f"{option}: {uri!r} is not gs://BUCKET/PATH.")
        if self.max_replicas < self.min_replicas:
            raise ConfigurationError("--max-replicas: it is less than --min-replicas.")
        if self.service_account is not None and not _ACCOUNT.fullmatch(self.service_account):
            raise ConfigurationError(
                f"--service-account: {self.service_account!r} is not NAME@PROJECT.iam.gserviceaccount.com."
            )
        _check_timeout(self.inference_timeout_s, dedicated=self.dedicated)

    @property
    def answer_limit_bytes(self) -> int:
        return DEDICATED_ANSWER_BYTES if self.dedicated else SHARED_ANSWER_BYTES

    @property
    def machine(self) -> str:
        return f"{self.machine_type} with {self.accelerator_count} x {self.accelerator}"


_LICENCE_ADVICE = (
    "The published MusicGen weights are licensed CC-BY-NC 4.0: for non-commercial use only. "
    "Set GATEWAY_MUSICGEN_LICENCE=cc-by-nc-4.0 if your use is non-commercial and you accept the licence, or "
    "GATEWAY_MUSICGEN_LICENCE=own-weights if you serve weights of your own."
)


def check_name(name: str) -> None:
    """Names become part of a filter and of labels, so they are plain. Raises `ConfigurationError`."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"--name: {name!r} is not a name; use up to 49 small letters, digits and hyphens, a letter first."
        )


def _check_image(image: str, location: str) -> None:
    """Vertex AI pulls from Artifact Registry in the endpoint's own region only ("Custom containers")."""
    found = _IMAGE.fullmatch(image)
    home = f"{location}-docker.pkg.dev"
    if found is None:
        raise ConfigurationError(
            f"--image: {image!r} is not in Artifact Registry; push it to "
            f"{home}/PROJECT/REPOSITORY/musicgen:TAG."
        )
    region = found["region"]
    if region in _MULTI_REGIONS:
        raise ConfigurationError(
            f"--image: {region}-docker.pkg.dev is multi-regional, from which Vertex AI does not deploy; push "
            f"the image to a repository on {home}."
        )
    if region != location:
        raise ConfigurationError(
            f"--image: it is in {region} and the endpoint in {location}; push it to a repository on {home}, "
            f"or deploy with --location {region}."
        )
    if found["version"] is None:
        raise ConfigurationError(
            "--image: it has no tag; add :TAG or @sha256:..., so that it is known which image was deployed."
        )


def _check_timeout(timeout_s: int, *, dedicated: bool) -> None:
    if dedicated and not 1 <= timeout_s <= LONGEST_TIMEOUT_S:
        raise ConfigurationError(
            f"--inference-timeout-s: a dedicated endpoint takes 1 to {LONGEST_TIMEOUT_S}."
        )
    if not dedicated and timeout_s != SHARED_TIMEOUT_S:
        raise ConfigurationError(
            f"--inference-timeout-s: on a shared endpoint it is {SHARED_TIMEOUT_S} and cannot be changed; "
            "leave it out, or deploy with --dedicated."
        )
