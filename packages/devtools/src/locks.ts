import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

const LOCAL_HOST = /^(?:localhost|[\w-]+\.localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/i
const LOOPBACK = /^(?:(?:::ffff:)?127(?:\.\d{1,3}){3}|::1)$/i
// What proxies add, by default or because they are configured to.
const FORWARDED =
  /^(?:forwarded|via|x-forwarded(?:-.*)?|x-real-ip|x-client-ip|x-original-.*|x-envoy-.*|true-client-ip|cf-.*)$/

const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; " +
    "form-action 'none'; frame-ancestors 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'same-origin',
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-store'
}

/** Answers 403 to all that do not come from a browser or a program of this machine, and lets no other site read an answer. */
export function lock(scope: FastifyInstance): void {
  scope.addHook('onRequest', async (request, reply) => {
    const reason = refusalOf(request)
    if (reason !== undefined) return reply.code(403).send({ statusCode: 403, error: 'Forbidden', message: reason })
  })
  // After the hooks of the application, which may allow other sites to read all of its answers.
  scope.addHook('onSend', async (_request, reply) => protect(reply))
}

/** Sets the headers of an answer that no hook will see. */
export function protect(reply: FastifyReply): void {
  for (const name of Object.keys(reply.getHeaders())) {
    if (name.startsWith('access-control-')) reply.removeHeader(name)
  }
  reply.headers(HEADERS)
}

/** Why a request is refused, `undefined` for one that is answered. */
function refusalOf({ raw }: Pick<FastifyRequest, 'raw'>): string | undefined {
  const { headers, socket, httpVersion } = raw
  if (!LOOPBACK.test(socket.remoteAddress ?? '')) return 'the developer page answers this machine only'
  const host = headers.host ?? headers[':authority']
  if (typeof host !== 'string' || !LOCAL_HOST.test(host)) return 'the Host must be localhost or a loopback address'
  const forwarded = Object.keys(headers).find((name) => FORWARDED.test(name))
  if (forwarded !== undefined) return `the request came through a proxy: it has the header ${forwarded}`
  // Neither browsers nor curl do either; nginx does both unless it is configured otherwise.
  if (httpVersion === '1.0' || headers.connection?.toLowerCase() === 'close') {
    return 'the request came through a proxy: its connection is for one request'
  }
  return isForeign(headers.origin, host) || isForeign(headers.referer, host) || isCrossSite(headers['sec-fetch-site'])
    ? 'the request came from another site'
    : undefined
}

function isForeign(address: string | undefined, host: string): boolean {
  return address !== undefined && URL.parse(address)?.host.toLowerCase() !== URL.parse(`http://${host}`)?.host
}

function isCrossSite(site: string | string[] | undefined): boolean {
  return site !== undefined && site !== 'same-origin' && site !== 'none'
}
