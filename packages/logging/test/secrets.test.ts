import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify from 'fastify'
import { test } from 'tap'
import logging from '../src/index.ts'

const HEADERS =
  'authorization Proxy-Authorization cookie x-api-key X-Auth-Token x-csrf-token x-amz-security-token api-key'
const FIELDS =
  'password passwd pwd secret token accessToken refresh_token id_token client_secret privateKey sessionId dbPassword'
const QUERY = 'token access_token api_key password secret session code_secret auth_token'

/** A secret for each place, forty and more, none of which may come out, as it is or encoded. */
const secrets: string[] = []
function plant(name: string): string {
  const secret = `planted/${secrets.length}+${name}?`
  secrets.push(secret)
  return secret
}
const planted = (names: string) => Object.fromEntries(names.split(' ').map((name) => [name, plant(name)]))

function encodings(secret: string): string[] {
  return [
    secret,
    encodeURIComponent(secret),
    Buffer.from(secret).toString('base64'),
    Buffer.from(`user:${secret}`).toString('base64')
  ]
}

test('lets none of the planted secrets out, on standard output or in the file', async (t) => {
  const file = join(await mkdtemp(join(tmpdir(), 'secrets-')), 'app.log')
  const written: string[] = []
  const app = Fastify()
  await app.register(logging, { file, stream: { write: (line) => written.push(line) } })
  const basic = plant('basic')
  const nested = { a: { b: { c: { d: { e: { f: planted(FIELDS) } } } } } }
  const url = `https://user:${encodeURIComponent(plant('url'))}@host/?token=${encodeURIComponent(plant('url query'))}`
  app.post('/', async (request) => {
    request.log.info({ headers: request.headers, query: request.query, body: request.body }, 'the request')
    request.log.info(nested, `calling ${url}`)
    request.log.warn(`login failed password=${plant('message')} token: ${plant('message token')}`)
    request.log.info({ authorization: `Basic ${Buffer.from(`user:${basic}`).toString('base64')}` })
    request.log.info(`sent Authorization: Basic ${Buffer.from(`user:${basic}`).toString('base64')}`)
    app.log.child({ password: plant('binding') }).info('child')
    const cause = new Error(`connect failed: password=${plant('cause')}`, {
      cause: { client_secret: plant('deep cause') }
    })
    throw new Error(`refused {"token":"${plant('json in message')}"}`, { cause })
  })
  const query = new URLSearchParams(planted(QUERY))
  await app.inject({ method: 'POST', url: `/?${query}`, headers: planted(HEADERS), payload: planted(FIELDS) })
  await app.close()

  const outputs = { stdout: written.join(''), file: await readFile(file, 'utf8') }
  t.ok(secrets.length >= 40, `${secrets.length} secrets`)
  t.match(outputs.stdout, /\[redacted\]/)
  for (const [name, output] of Object.entries(outputs)) {
    t.equal(output.trimEnd().split('\n').length, 7)
    const found = secrets.filter((secret) => encodings(secret).some((form) => output.includes(form)))
    t.same(found, [], name)
  }
})

test('redacts further names, or keeps only allowed ones', async (t) => {
  const written: string[] = []
  const stream = { write: (line: string) => written.push(line) }
  const more = Fastify()
  await more.register(logging, { stream, redact: ['iban'] })
  more.log.info({ IBAN: 'planted', other: 'shown' })
  const only = Fastify()
  await only.register(logging, { stream, allow: ['order'] })
  only.log.info({ order: 'shown', customer: 'planted' })
  t.notMatch(written.join(''), 'planted')
  t.equal(written.filter((line) => line.includes('shown')).length, 2)
})
