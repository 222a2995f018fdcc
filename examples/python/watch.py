#!/usr/bin/env python3
"""Prints what happens, and after each event the worker that would be killed next. Ends with Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import sys

from monitor_client import AsyncClient, MonitorError, Note


async def main() -> None:
    """Watches until it is interrupted."""
    async with AsyncClient() as client:
        pushes = client.pushes()
        await client.watch()
        status = await client.status()
        print(f"agent {status['version']}, {status['workers']} workers, policy {status['policy']}")
        async for push in pushes:
            if isinstance(push, Note):
                print(json.dumps(push.note))
                ranking = (await client.explain())["ranking"]
                print("next:", f"{ranking[0]['id']}: {ranking[0]['why']}" if ranking else "nobody")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except MonitorError as error:
        sys.exit(f"watch.py: {error}")
