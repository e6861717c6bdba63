import { registryOf } from '@fastify-observability/observation/internal'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import type { FastifyInstance } from 'fastify'

/** Closes the app when all is sent: the close alone gives deliveries less time than a busy machine may take. */
export async function closeSent(app: FastifyInstance): Promise<void> {
  await registryOf(app).flush(PATIENCE_MS)
  await app.close()
}
