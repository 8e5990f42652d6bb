"""``python -m musicgen_server``: reads the environment, and serves."""

import logging
import os
import sys

from musicgen_server.settings import ConfigurationError, Settings

_MISCONFIGURED = 2


def main() -> int:
    """Returns the exit code: 2 for settings that cannot be, else as `musicgen_server.serving.serve`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings.read(os.environ)  # noqa: TID251 - the one place
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - for who starts it
        return _MISCONFIGURED
    # Seconds of torch, for which nobody shall wait to be told of a setting.
    from musicgen_server.serving import serve  # noqa: PLC0415

    return serve(settings)


if __name__ == "__main__":
    sys.exit(main())
