import { spawnSync } from 'node:child_process'
import { PYTHON } from './process.ts'
import type { Plan } from './sample.ts'
import type { VariantName } from './variants.ts'

/** Each framework alone and observed. */
export const PEERS: { bare: VariantName; observed: VariantName }[] = [
  { bare: 'bare', observed: 'ours' },
  { bare: 'fastapi', observed: 'fastapi-observed' }
]
/** Those that need Python. */
export const IN_PYTHON: VariantName[] = ['fastapi', 'fastapi-observed']
export const NO_PYTHON =
  'FastAPI: no Python from 3.10 with benchmarks/peers/requirements.txt; BENCH_PYTHON names another than python3'
// A turn of the dearest takes two seconds.
export const PEERS_PLAN: Pick<Plan, 'rounds' | 'roundsAStart' | 'requests' | 'warmUp'> = {
  rounds: 10,
  roundsAStart: 5,
  requests: 2_048,
  warmUp: 30_000
}

const MODULES = [
  'uvicorn',
  'fastapi',
  'loguru',
  'opentelemetry.instrumentation.fastapi',
  'opentelemetry.exporter.otlp.proto.grpc',
  'prometheus_fastapi_instrumentator'
]

export function hasPython(): boolean {
  const program = `import sys; assert sys.version_info >= (3, 10); import ${MODULES.join(', ')}`
  return spawnSync(PYTHON, ['-c', program]).status === 0
}
