"""httpx downloading and discarding: what any client built on it has to beat, or at least come near.

    python -m tests.bench.discard URL PROMPT STREAMS

Prints the bytes received, and the seconds and processor seconds that took.
"""

import asyncio
import sys
import time

import httpx
import uvloop


async def download(client: httpx.AsyncClient, url: str, prompt: str) -> int:
    received_bytes = 0
    body = {"instances": [{"prompt": prompt}], "parameters": {"sample_count": 4}}
    async with client.stream("POST", url, json=body) as response:
        async for chunk in response.aiter_raw():
            received_bytes += len(chunk)
    return received_bytes


async def main(url: str, prompt: str, streams: int) -> None:
    limits = httpx.Limits(max_connections=streams)
    async with httpx.AsyncClient(limits=limits, timeout=60.0, trust_env=False) as client:
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        sizes = await asyncio.gather(*(download(client, url, prompt) for _ in range(streams)))
        print(sum(sizes), time.perf_counter() - started_s, time.process_time() - started_cpu_s)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
