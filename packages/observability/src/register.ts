import '@fastify-observability/tracing/register'
