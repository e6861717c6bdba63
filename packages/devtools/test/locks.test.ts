import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { withEnv } from '@fastify-observability/testing/environment'
import { freePorts } from '@fastify-observability/testing/ports'
import { type Test, test } from 'tap'
import { startService } from './service.ts'

const PAGE = '/_observability'
const PATHS = [PAGE, `${PAGE}/page/app.js`, `${PAGE}/api/requests`, `${PAGE}/api/events`, `${PAGE}/api/setup`]
const NGINX = spawnSync('nginx', ['-v'], { env: { PATH: `${process.env.PATH}:/usr/sbin` } })
const NO_NGINX = NGINX.error ? 'no nginx: apt-get install nginx-light' : false

for (const [what, headers, remoteAddress] of [
  ['a name that only resolves to this machine', { host: 'evil.example' }],
  ['a name that begins like this machine', { host: 'localhost.evil.example' }],
  ['a forwarded request', { forwarded: 'for=192.0.2.1' }],
  ['an x-forwarded-for', { 'x-forwarded-for': '127.0.0.1' }],
  ['an x-forwarded-host', { 'x-forwarded-host': 'localhost' }],
  ['a via', { via: '1.1 proxy' }],
  ['an x-real-ip', { 'x-real-ip': '127.0.0.1' }],
  ['a connection for one request', { connection: 'close' }],
  ['another origin', { origin: 'http://evil.example' }],
  ['an origin that hides itself', { origin: 'null' }],
  ['a page of another site', { referer: 'http://localhost:9999/' }],
  ['a script of another site', { 'sec-fetch-site': 'cross-site' }],
  ['another address', {}, '192.0.2.7'],
  ['another address over IPv6', {}, '2001:db8::7']
] as const) {
  test(`refuses ${what}`, async (t) => {
    const { app } = await startService(t)
    for (const url of PATHS) {
      const options = { url, headers: { host: 'localhost:3000', ...headers }, ...(remoteAddress && { remoteAddress }) }
      t.equal((await app.inject(options)).statusCode, 403, url)
    }
    t.equal(
      (
        await app.inject({
          method: 'POST',
          url: `${PAGE}/mcp`,
          headers: { ...headers },
          ...(remoteAddress && { remoteAddress })
        })
      ).statusCode,
      403
    )
  })
}

for (const host of ['localhost:3000', '127.0.0.1:3000', '[::1]:3000', 'orders.localhost:3000']) {
  test(`answers ${host}`, async (t) => {
    const { app } = await startService(t)
    t.equal((await app.inject({ url: PAGE, headers: { host } })).statusCode, 200)
  })
}

test('a policy allows no inline script and no other origin, on every answer', async (t) => {
  const { app } = await startService(t)
  for (const url of PATHS.filter((path) => !path.endsWith('events'))) {
    const { headers, statusCode } = await app.inject(url)
    t.equal(statusCode, 200, url)
    const policy = String(headers['content-security-policy'])
    t.match(policy, "default-src 'none'; script-src 'self'; style-src 'self'")
    t.notMatch(policy, /unsafe|https?:|\*/)
    t.match(headers, { 'x-content-type-options': 'nosniff', 'cache-control': 'no-store' })
  }
})

test('allows no other site to read it, where the application allows all of them', async (t) => {
  const { app } = await startService(t)
  app.addHook('onRequest', async (_request, reply) => void reply.header('access-control-allow-origin', '*'))
  const own = await app.inject('/ok')
  t.equal(own.headers['access-control-allow-origin'], '*')
  for (const url of [PAGE, `${PAGE}/api/requests`]) {
    t.equal((await app.inject(url)).headers['access-control-allow-origin'], undefined)
  }
})

test('is not there in production', async (t) => {
  withEnv(t, { NODE_ENV: 'production' })
  const { app } = await startService(t)
  for (const url of PATHS) t.equal((await app.inject(url)).statusCode, 404)
  await app.inject('/ok')
})

test('serves no other file', async (t) => {
  const { app } = await startService(t)
  for (const name of ['../package.json', '..%2fpackage.json', 'index.html', 'nothing.js']) {
    t.equal((await app.inject(`${PAGE}/page/${name}`)).statusCode, 404, name)
  }
})

/** An nginx in front of the service, with these lines for its location. */
async function startNginx(t: Test, upstream: string, lines: string): Promise<string> {
  const [port = 0] = await freePorts(1)
  const folder = await mkdtemp(join(tmpdir(), 'nginx-'))
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${folder}/${name};`)
    .join(' ')
  await writeFile(
    join(folder, 'nginx.conf'),
    `daemon off; pid ${folder}/pid; error_log stderr; events {}
     http { access_log off; ${temporary} server { listen 127.0.0.1:${port}; location / { proxy_pass ${upstream}; ${lines} } } }`
  )
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` }
  const nginx = spawn('nginx', ['-c', join(folder, 'nginx.conf')], { env, stdio: 'ignore' })
  t.teardown(async () => {
    nginx.kill()
    await once(nginx, 'exit')
    await rm(folder, { recursive: true, force: true })
  })
  const url = `http://127.0.0.1:${port}`
  // nginx says nowhere that it listens.
  while (
    await fetch(`${url}/ok`).then(
      () => false,
      () => true
    )
  )
    await wait(20)
  return url
}

for (const [what, lines] of [
  ['its default headers', ''],
  ['forwarded headers', 'proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header Host localhost;'],
  ['HTTP/1.1 and a Host of its own', 'proxy_http_version 1.1; proxy_set_header Host localhost;']
] as const) {
  test(`refuses what comes through an nginx with ${what}`, { skip: NO_NGINX }, async (t) => {
    const { app } = await startService(t)
    const url = await startNginx(t, await app.listen({ port: 0, host: '127.0.0.1' }), lines)
    t.equal((await fetch(`${url}/ok`)).status, 200)
    for (const path of PATHS) t.equal((await fetch(url + path)).status, 403, path)
  })
}

test('refuses a request of HTTP/1.0', async (t) => {
  const { app } = await startService(t)
  const { port } = new URL(await app.listen({ port: 0, host: '127.0.0.1' }))
  const socket = connect(Number(port), '127.0.0.1')
  socket.end(`GET ${PAGE} HTTP/1.0\r\nHost: localhost\r\n\r\n`)
  const [answer] = await once(socket, 'data')
  t.match(String(answer), /^HTTP\/1\.1 403/)
})
