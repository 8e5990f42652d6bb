"""A look-alike of Vertex AI music models. Imports nothing else of this package.

    server    binds a port and serves; ``python -m gateway.emulator.server``
    app       routes: Google's two predict surfaces, and ``/control`` for tests
    vertex    what Google's front end checks, and the bodies of its errors
    faults    what may go wrong, on demand: a queue that tests fill over HTTP
    answers   the JSON body of an answer, streamed, never held whole
    calls     a log of what was asked and what would have been paid
    studio    composes clips in threads and keeps the last ones
    music     prompt and seed to sound

It shares no code with the gateway, so that a mistake made on one side is not repeated on the other.
Facts about Google's behaviour come from Google's documentation and published samples.
"""
