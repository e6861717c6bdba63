import { createRequire, syncBuiltinESMExports } from 'node:module'
import { attempt, type InstrumentationReport, withDocs } from '@fastify-observability/observation/internal'
import { isSpanContextValid, ProxyTracerProvider, type TracerProvider } from '@opentelemetry/api'
import type { Instrumentation, InstrumentationModuleDefinition } from '@opentelemetry/instrumentation'
import { UndiciInstrumentation } from '@opentelemetry/instrumentation-undici'
import type { FastifyBaseLogger } from 'fastify'
import { HttpInstrumentation } from '#instrumentation-http'
import { type ApiCopy, apiCopies } from './api-copies.ts'
import { countCall, noteInstrumented } from './database-calls.ts'
import { type ClientCopy, clientCopies } from './database-clients.ts'
import { hideErrorText } from './error-hiding.ts'
import { prepareHttpHeaders, prepareUndiciHeaders } from './outgoing-headers.ts'
import { observingStarts } from './started-spans.ts'

interface InstrumentationSet {
  /** Whether `register` has made it, before the application was loaded. */
  preloaded: boolean
  instrumentations: Instrumentation[]
  /** Where their spans go, while a pipeline runs. */
  provider: TracerProvider | undefined
  /** What `register` was asked for and could not do, in sentences. */
  problems: string[]
}

// One set a process, whichever copy of this package asks: what an instrumentation hooks into the module loader stays
// there, and only the first set patches.
const KEY = Symbol.for('@fastify-observability/tracing/instrumentations')
// What only the preload can instrument, where it publishes nothing. node-redis is patched in its client.
const PRELOAD_ONLY = ['pg', 'ioredis', '@redis/client']
const PACKAGE_IN_PATH = /.*[\\/]node_modules[\\/]((?:@[^\\/]+[\\/])?[^\\/]+)/
// States of packages whose calls are seen in part, or not at all.
const UNSEEN: ReadonlySet<string> = new Set(['late', 'unsupported', 'preloadOnly'])
const NOWHERE = new ProxyTracerProvider()
// Of Node's own modules, and of what is loaded: any path will do, and a bundle may have none.
const require = createRequire(process.execPath)

// Who receives what the application's own throw.
const reports = new WeakMap<Instrumentation, (error: unknown) => void>()

function isSet(value: unknown): value is InstrumentationSet {
  return typeof value === 'object' && value !== null && 'instrumentations' in value
}

function findSet(): InstrumentationSet | undefined {
  const found: unknown = Reflect.get(globalThis, KEY)
  return isSet(found) ? found : undefined
}

function theSet(): InstrumentationSet {
  const found = findSet()
  if (found) return found
  // Server spans are ours; these two see only the calls that go out.
  // Off until `enable` or `preload`: beside a provider of the user's, their own instrumentations see these calls.
  const http = new HttpInstrumentation({
    disableIncomingRequestInstrumentation: true,
    startOutgoingSpanHook(options) {
      prepareHttpHeaders(options)
      return {}
    }
  })
  const undici = new UndiciInstrumentation({
    requestHook(span, request) {
      if (isSpanContextValid(span.spanContext())) prepareUndiciHeaders(request)
    }
  })
  const instrumentations = [http, undici]
  for (const instrumentation of instrumentations) instrumentation.disable()
  const created = { preloaded: false, instrumentations, provider: undefined, problems: [] }
  Reflect.set(globalThis, KEY, created)
  return created
}

/** Whether the preload has run in this process. */
export function isPreloaded(): boolean {
  return findSet()?.preloaded === true
}

/** Takes what the preload has hooked into the module loader. It stays patched, and without spans until `enable`. */
export function preload(instrumentations: Instrumentation[], problems: string[]): void {
  const set = theSet()
  set.preloaded = true
  set.problems.push(...problems)
  addInstrumentations(instrumentations)
  for (const instrumentation of set.instrumentations) {
    direct(instrumentation, set.provider)
    invoke(instrumentation, () => instrumentation.enable())
  }
  patchHttp()
}

/**
 * Adds instrumentations that the application has made.
 * @param report receives what they throw
 */
export function addInstrumentations(
  instrumentations: readonly Instrumentation[],
  provider?: TracerProvider,
  report?: (error: unknown) => void
): void {
  const set = theSet()
  for (const instrumentation of instrumentations) {
    if (set.instrumentations.includes(instrumentation)) continue
    set.instrumentations.push(instrumentation)
    if (report) reports.set(instrumentation, report)
    direct(instrumentation, set.provider ?? provider)
  }
}

/** Sends the spans of all instrumentations to a provider. */
export function enable(provider: TracerProvider): void {
  const set = theSet()
  set.provider = provider
  for (const instrumentation of set.instrumentations) {
    direct(instrumentation, provider)
    invoke(instrumentation, () => instrumentation.enable())
  }
  patchHttp()
}

/** Ends what `enable` has begun: no spans and no headers any more. */
export function disable(): void {
  const set = theSet()
  set.provider = undefined
  for (const instrumentation of set.instrumentations) {
    direct(instrumentation, undefined)
    // What the preload has patched stays so: some of them could not patch again what is loaded already.
    if (!set.preloaded) invoke(instrumentation, () => instrumentation.disable())
  }
  syncBuiltinESMExports()
}

function direct(instrumentation: Instrumentation, provider: TracerProvider | undefined): void {
  const listeners = [hideErrorText, countCall, noteInstrumented]
  const target = provider ? observingStarts(provider, listeners) : NOWHERE
  invoke(instrumentation, () => instrumentation.setTracerProvider(target))
}

/** @throws what an instrumentation throws that is not the application's. */
function invoke(instrumentation: Instrumentation, call: () => unknown): void {
  const report = reports.get(instrumentation)
  if (report) attempt(call, report)
  else call()
}

function patchHttp(): void {
  // http is patched when it is next required, and ES modules hold on to what they imported before.
  require('node:http')
  require('node:https')
  syncBuiltinESMExports()
}

/** Whether an instrumentation has patched a copy of the package. */
export function isInstrumented(name: string): boolean {
  const definitions = theSet().instrumentations.flatMap(definitionsOf)
  return definitions.some((definition) => definition.name === name && isPatched(definition))
}

/**
 * Says in one line what is instrumented, how, and what is not, and warns of what is wrong.
 * @param hasChannels whether spans are made of what database clients publish
 */
export function reportInstrumentations(log: FastifyBaseLogger, hasChannels: boolean): InstrumentationReport[] {
  const { preloaded, instrumentations, problems } = theSet()
  const paths = Object.keys(require.cache)
  const loaded = new Set(paths.map((path) => PACKAGE_IN_PATH.exec(path)?.[1]?.replace('\\', '/')))
  const states: Record<State, string[]> = { instrumented: [], waiting: [], late: [], unsupported: [] }
  const clients = clientCopies(paths).filter(({ module }) => !isInstrumented(module))
  const publishing = hasChannels ? clients.filter((client) => client.hasChannels) : []
  const unseen = clients.filter((client) => !publishing.includes(client))
  for (const instrumentation of instrumentations) {
    const [state, name] = stateOf(instrumentation, loaded)
    const isPublished = definitionsOf(instrumentation).some((definition) =>
      publishing.some(({ module }) => module === definition.name)
    )
    if (!isPublished) states[state].push(name)
  }
  const unhooked = preloaded ? [] : PRELOAD_ONLY.filter((name) => unseen.some(({ module }) => module === name))
  const unpublished = hasChannels ? unseen.filter(({ module }) => !PRELOAD_ONLY.includes(module)) : []
  states.unsupported.push(...unpublished.map(titleOf))
  const copies = apiCopies(paths)
  const parts: InstrumentationReport[] = [
    { state: 'instrumented', what: 'instrumented', names: states.instrumented },
    { state: 'published', what: 'seen by their diagnostics channels', names: publishing.map(titleOf) },
    { state: 'waiting', what: 'not loaded so far', names: states.waiting },
    { state: 'late', what: 'loaded too early to be instrumented', names: states.late },
    {
      state: 'unsupported',
      what: 'not instrumented, loaded too early or of a version that is not supported',
      names: states.unsupported
    },
    { state: 'preloadOnly', what: 'only with `node --import fastify-observability/register`', names: unhooked },
    {
      state: 'copies',
      what: copies.length > 1 ? 'copies of @opentelemetry/api' : 'one copy of @opentelemetry/api',
      names: copies.map(({ version }) => version)
    }
  ]
  const found = parts.filter(({ names }) => names.length > 0)
  const isMissing = found.some(({ state }) => UNSEEN.has(state))
  const words = found.map(({ what, names }) => `${what}: ${names.join(', ')}`).join('; ')
  log.info(isMissing ? withDocs('loaded-too-early') : {}, `tracing: ${words}`)
  if (copies.length > 1) {
    log.warn(
      withDocs('two-copies-of-opentelemetry'),
      `tracing: ${copies.length} copies of @opentelemetry/api are installed: ${copies.map(described).join(', ')}; spans of one are lost to the other: depend on one version of it ("npm ls @opentelemetry/api" or "pnpm why @opentelemetry/api" names who brings each)`
    )
  }
  for (const problem of problems) log.warn(withDocs('loaded-too-early'), `tracing: ${problem}`)
  return found
}

type State = 'instrumented' | 'waiting' | 'late' | 'unsupported'

function stateOf(instrumentation: Instrumentation, loaded: ReadonlySet<string | undefined>): [State, string] {
  const name = instrumentation.instrumentationName.replace('@opentelemetry/instrumentation-', '')
  const definitions = definitionsOf(instrumentation).filter((definition) => !isBuiltin(definition))
  const patched = definitions.find(isPatched)
  if (patched) return ['instrumented', `${name} ${patched.moduleVersion}`]
  const seen = definitions.find(({ moduleVersion }) => moduleVersion !== undefined)
  if (seen) return ['unsupported', `${name} ${seen.moduleVersion}`]
  if (definitions.some((definition) => loaded.has(definition.name))) return ['late', name]
  // Those without a package patch Node.js itself, or only listen to it.
  return [definitions.length > 0 ? 'waiting' : 'instrumented', name]
}

function isBuiltin({ name }: InstrumentationModuleDefinition): boolean {
  return process.getBuiltinModule(name) !== undefined
}

function isPatched({ moduleExports, files = [] }: InstrumentationModuleDefinition): boolean {
  return [moduleExports, ...files.map((file) => file.moduleExports)].some((exports) => exports !== undefined)
}

/** What an instrumentation hooks in the module loader. Upstream keeps it to itself, and the one of Redis in two parts. */
export function definitionsOf(instrumentation: Instrumentation): InstrumentationModuleDefinition[] {
  const parts = Object.values(instrumentation).filter(isInstrumentation)
  return [instrumentation, ...parts].flatMap((part) => {
    const modules: unknown = Reflect.get(part, '_modules')
    return Array.isArray(modules) ? modules : []
  })
}

export function isInstrumentation(value: unknown): value is Instrumentation {
  return typeof value === 'object' && value !== null && 'instrumentationName' in value && 'setTracerProvider' in value
}

function titleOf({ name, version }: ClientCopy): string {
  return `${name} ${version}`
}

function described({ version, folder }: ApiCopy): string {
  return folder === undefined ? `${version} (bundled)` : `${version} in ${folder}`
}
