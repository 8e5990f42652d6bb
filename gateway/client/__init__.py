"""A small typed client of the gateway, for programs: synchronous and asynchronous.

    with Client("https://music.example.com", key) as client:
        task = client.generate("slow piano", seconds=30)
        client.download(task.clips[0], "piano.wav")

It waits, listens, repeats what is safe to repeat, and verifies webhooks. It is a stranger to the gateway's
own code and needs httpx alone.
"""

from gateway.client.asynchronous import AsyncClient
from gateway.client.model import ApiError, Clip, Event, Patience, Task
from gateway.client.synchronous import Client
from gateway.client.verification import WebhookError, verify_webhook

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "Clip",
    "Event",
    "Patience",
    "Task",
    "WebhookError",
    "verify_webhook",
]
