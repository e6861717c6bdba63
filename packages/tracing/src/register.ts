import { createRequire, register as registerLoader } from 'node:module'
import { join } from 'node:path'
import { isOpenTelemetryDisabled, requireOf, thrownTexts } from '@fastify-observability/observation/internal'
import type { Instrumentation } from '@opentelemetry/instrumentation'
import { IORedisInstrumentation } from '@opentelemetry/instrumentation-ioredis'
import { PgInstrumentation } from '@opentelemetry/instrumentation-pg'
import { RedisInstrumentation } from '@opentelemetry/instrumentation-redis'
import { register as registerHooks, supportsSyncHooks } from 'import-in-the-middle/register-hooks.mjs'
import { definitionsOf, isInstrumentation, isPreloaded, preload } from './instrumentation/instrumentations.ts'
import { withoutValues } from './processing/statement.ts'

const LIFECYCLE = '@opentelemetry/instrumentation-fastify'

/** Database calls are children of what they are made for. Values stay out of what is said of them. */
function databases(): Instrumentation[] {
  const config = { requireParentSpan: true }
  const dbStatementSerializer = (command: string, args: readonly unknown[]) =>
    args.length > 0 ? `${command} ?` : command
  return [
    new PgInstrumentation({
      ...config,
      requestHook(span, { query, connection }) {
        const shape = withoutValues(query.text)
        span.setAttribute('db.query.text', shape)
        // Upstream names a span by what stands before the first space, which may well be a value.
        if (!query.name) span.updateName(`pg.query:${/^\w*/.exec(shape)?.[0].toUpperCase()} ${connection.database}`)
      }
    }),
    new IORedisInstrumentation({ ...config, dbStatementSerializer }),
    new RedisInstrumentation({ ...config, dbStatementSerializer })
  ]
}

/** The instrumentations that a package exports, made without options. */
function instrumentationsIn(exports: object): Instrumentation[] {
  const classes = Object.entries(exports).filter(([name, value]) => {
    return name.endsWith('Instrumentation') && typeof value === 'function'
  })
  return [...new Set(classes.map(([, value]) => value))]
    .map((value): unknown => Reflect.construct(value, []))
    .filter(isInstrumentation)
}

/** Loads a package as the application would: from where its main file is, or else from where it was started. */
function load(name: string): object {
  const [, main] = process.argv
  const folders = [...(main ? [main] : []), join(process.cwd(), 'package.json')]
  const found = folders.flatMap((from) => {
    try {
      return [createRequire(from).resolve(name)]
    } catch {
      return []
    }
  })
  return requireOf(import.meta.url)(found[0] ?? name)
}

function named(list: string, problems: string[]): Instrumentation[] {
  const names = list.split(',').map((name) => name.trim())
  return names.filter(Boolean).flatMap((name) => {
    if (name === LIFECYCLE) {
      problems.push(`TRACE_INSTRUMENTATIONS: set TRACE_LIFECYCLE_SPANS=true instead of naming ${LIFECYCLE}`)
      return []
    }
    try {
      const found = instrumentationsIn(load(name))
      if (found.length === 0) problems.push(`TRACE_INSTRUMENTATIONS: ${name} exports no instrumentation`)
      return found
    } catch (error) {
      const { name: kind, message } = thrownTexts(error)
      const [reason] = `${kind}: ${message}`.split('\n')
      problems.push(`TRACE_INSTRUMENTATIONS: ${name} cannot be loaded: ${reason}`)
      return []
    }
  })
}

/** Has ES modules that import an instrumented package get what the instrumentations make of it. */
function hookImports(packages: readonly string[], problems: string[]): void {
  const include = packages.map((name) => new RegExp(`/node_modules/${name.replace(/[.*+?^$()[\]{}|\\]/g, '\\$&')}/`))
  // The hooks that need no thread of their own, and no function that is deprecated, where they work.
  if (supportsSyncHooks()) registerHooks({ include })
  else if (isRequired())
    problems.push(`an import is not seen on Node.js ${process.version}: use --import, not --require`)
  else registerLoader('import-in-the-middle/hook.mjs', import.meta.url, { data: { include } })
}

// What --require names is required in the thread of such hooks too, and the process ends because it is an ES module.
function isRequired(): boolean {
  return /(^| )(-r|--require)[ =]\S*[\\/]register\b/.test([...process.execArgv, process.env.NODE_OPTIONS].join(' '))
}

const { TRACE_INSTRUMENTATIONS = '' } = process.env
// Logged by the plugin.
const problems: string[] = []
if (!isOpenTelemetryDisabled((problem) => problems.push(problem)) && !isPreloaded()) {
  const instrumentations = [...databases(), ...named(TRACE_INSTRUMENTATIONS, problems)]
  hookImports(
    instrumentations.flatMap(definitionsOf).map(({ name }) => name),
    problems
  )
  preload(instrumentations, problems)
}
