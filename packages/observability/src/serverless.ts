import type { Registry } from '@fastify-observability/observation/internal'

/** How long an answer may wait for the delivery of what is known of it. */
const FLUSH_MS = 2_000
/** The same while deliveries fail: an outage must not slow every answer down. */
const OUTAGE_MS = 100

/** Has each answer wait until its line, span, points and event have left: platforms freeze the process when it goes out. */
export function flushBeforeAnswers(registry: Registry): void {
  let patienceMs = FLUSH_MS
  registry.beforeAnswer = async () => {
    const { complete } = await registry.flush(patienceMs)
    patienceMs = complete ? FLUSH_MS : OUTAGE_MS
  }
}
