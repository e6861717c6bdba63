"""FastAPI alone, or with the packages that this suite translates: loguru, FastAPIInstrumentor and the instrumentator.

Run by process.ts as `app.py bare` or `app.py observed`. It speaks Node's IPC, a line of JSON each way, as server.ts does.
"""

import json
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable

import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel


class User(BaseModel):
    id: int
    name: str
    active: bool


app = FastAPI()


@app.get("/users/{id}")
async def user(id: int) -> User:
    return User(id=id, name="Ada Lovelace", active=True)


def observe() -> None:
    from loguru import logger
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from prometheus_fastapi_instrumentator import Instrumentator

    provider = TracerProvider(resource=Resource.create({"service.name": "users"}))
    exporter = OTLPSpanExporter(endpoint=os.environ["BENCH_OTLP"], insecure=True)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    logger.remove()
    logger.add(sys.stdout, serialize=True)

    @app.middleware("http")
    async def log(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        started_at = time.perf_counter()
        response = await call_next(request)
        context = trace.get_current_span().get_span_context()
        logger.bind(
            method=request.method,
            path=request.url.path,
            status=response.status_code,
            duration_ms=(time.perf_counter() - started_at) * 1000,
            trace_id=format(context.trace_id, "032x"),
            span_id=format(context.span_id, "016x"),
        ).info("request completed")
        return response

    Instrumentator().instrument(app).expose(app)
    FastAPIInstrumentor.instrument_app(app)


channel = socket.socket(fileno=int(os.environ["NODE_CHANNEL_FD"]))


def say(message: object) -> None:
    channel.sendall((json.dumps(message) + "\n").encode())


def answer() -> None:
    for question in channel.makefile():
        # Python does not count what it allocates.
        say(used() if json.loads(question) == "usage" else None)
    os._exit(0)


def used() -> dict[str, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    return {
        "userUs": usage.ru_utime * 1e6,
        "systemUs": usage.ru_stime * 1e6,
        "rssBytes": pages * resource.getpagesize(),
    }


if sys.argv[1] == "observed":
    observe()
listener = socket.create_server(("127.0.0.1", 0), backlog=511)
say(f"http://127.0.0.1:{listener.getsockname()[1]}")
threading.Thread(target=answer, daemon=True).start()
config = uvicorn.Config(app, access_log=False, log_level="warning")
uvicorn.Server(config).run(sockets=[listener])
