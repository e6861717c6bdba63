import { EventEmitter, once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { gunzipSync } from 'node:zlib'
import { Profile } from 'pprof-format'

/** A sample of a profile: its values by their type, its labels, and the functions from the innermost outwards. */
export interface ProfileSample {
  values: Record<string, number>
  labels: Record<string, string>
  functions: string[]
}

/** One push, decoded. */
export interface PushedProfile {
  query: Record<string, string>
  headers: IncomingHttpHeaders
  /** Such as `cpu:nanoseconds`. */
  types: string[]
  samples: ProfileSample[]
}

export interface Pyroscope {
  url: string
  /** The status that pushes are answered with, or nothing. Set it to break the server. */
  answer: number | 'hang'
  /** Everything received so far, whatever was answered. */
  profiles: PushedProfile[]
  /** Resolves when so many were received. */
  received(count: number): Promise<void>
  close(): Promise<void>
}

/** Receives profiles as Pyroscope's `/ingest` does. */
export async function startPyroscope(): Promise<Pyroscope> {
  const arrivals = new EventEmitter()
  const server = createServer(async (request, response) => {
    const body = await buffer(request).catch(() => undefined)
    // The sender has gone.
    if (!body) return
    const { searchParams } = new URL(String(request.url), 'http://pyroscope')
    const profile = Profile.decode(gunzipSync(body))
    pyroscope.profiles.push({
      query: Object.fromEntries(searchParams),
      headers: request.headers,
      ...contentOf(profile)
    })
    arrivals.emit('profile')
    if (pyroscope.answer !== 'hang') response.writeHead(pyroscope.answer).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : undefined

  const pyroscope: Pyroscope = {
    url: `http://127.0.0.1:${port}`,
    answer: 200,
    profiles: [],
    async received(count) {
      while (pyroscope.profiles.length < count) await once(arrivals, 'profile')
    },
    async close() {
      server.closeAllConnections()
      server.close()
    }
  }
  return pyroscope
}

function contentOf(profile: Profile): Pick<PushedProfile, 'types' | 'samples'> {
  const text = (index: number | bigint) => profile.stringTable.strings[Number(index)] ?? ''
  const types = profile.sampleType.map(({ type, unit }) => `${text(type)}:${text(unit)}`)
  const functions = new Map(profile.function.map(({ id, name }) => [id, text(name)]))
  const locations = new Map(
    profile.location.map(({ id, line }) => [id, line.map(({ functionId }) => functions.get(functionId) ?? '')])
  )
  const samples = profile.sample.map(({ value, label, locationId }) => ({
    values: Object.fromEntries(types.map((type, index) => [type, Number(value[index])])),
    labels: Object.fromEntries(label.map(({ key, str }) => [text(key), text(str)])),
    functions: locationId.flatMap((id) => locations.get(id) ?? [])
  }))
  return { types, samples }
}
