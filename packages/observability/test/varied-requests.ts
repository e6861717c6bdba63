/** A request, or the bytes that are sent in the place of one. */
export type Varied =
  | { method: string; path: string; headers: Record<string, string>; body: string | undefined }
  | string

const PATHS = [
  ...['/json', '/text', '/none', '/null', '/late', '/stream', '/torn', '/big', '/empty', '/redirect', '/cookies'],
  ...[
    '/hijacked',
    '/written',
    '/early',
    '/boom',
    '/nothing-thrown',
    '/text-thrown',
    '/handled',
    '/handler-throws',
    '/hook'
  ],
  ...[
    '/status/400',
    '/status/404',
    '/status/418',
    '/status/503',
    '/status/99',
    '/typed/7',
    '/typed/seven',
    '/wild/a/b/c'
  ],
  ...['/json?a=1&a=2', '/json?', '/json?%', '/json#hash', '/JSON', '/json/', '//json', '/./json', '/typed/', '/echo'],
  ...[
    '/nowhere',
    '/%c0',
    '/typed/%zz',
    '/typed/%2e%2e',
    `/wild/${'x'.repeat(300)}`,
    '*',
    '/ws',
    '/files/a.txt',
    '/legacy/x'
  ]
]
const METHODS = [
  'GET',
  'GET',
  'GET',
  'HEAD',
  'POST',
  'POST',
  'PUT',
  'PATCH',
  'DELETE',
  'OPTIONS',
  'TRACE',
  'PURGE',
  'QUERY'
]
const TYPES = [
  ...['application/json', 'application/json; charset=utf-8', 'text/plain', 'application/x-www-form-urlencoded'],
  ...['application/octet-stream', 'multipart/form-data', 'nonsense', 'application/json; charset="']
]
const BODIES = [
  '{"a":1}',
  '{"a":',
  '[]',
  'null',
  '""',
  '',
  ' ',
  'a=1&b=2',
  '{"__proto__":{"x":1}}',
  'ü€😀',
  'x'.repeat(3000)
]
const HEADERS: Record<string, string>[] = [
  {},
  { accept: 'text/html' },
  { 'accept-encoding': 'gzip' },
  { 'x-request-id': 'caller-1' },
  { 'x-request-id': 'not "safe"' },
  { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' },
  { traceparent: 'nonsense', tracestate: ',,,' },
  { cookie: 'a=1; b="2"', 'if-none-match': '*' },
  { origin: 'https://shop.example', 'access-control-request-method': 'PUT' },
  { 'x-forwarded-for': '203.0.113.7, nonsense', 'x-forwarded-proto': 'https' },
  { range: 'bytes=0-3', connection: 'close' },
  { 'accept-version': '1.x' }
]
const BYTES = [
  'GET /json HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n',
  'GET /json HTTP/1.1\r\n\r\n',
  'GET /json HTTP/1.0\r\n\r\n',
  'nonsense\r\n\r\n',
  'POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n',
  'GET http://shop.example/json HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n',
  `GET /json HTTP/1.1\r\nhost: a\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`
]

/** The same requests for the same seed. */
export function variedRequests(seed: number, count: number): Varied[] {
  let state = seed
  // https://en.wikipedia.org/wiki/Linear_congruential_generator, with the constants of Numerical Recipes.
  function oneOf<Thing>(things: readonly [Thing, ...Thing[]] | Thing[]): Thing {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return things[Math.floor((state / 2 ** 32) * things.length)] as Thing
  }
  return Array.from({ length: count }, (_, index) => {
    if (index % 20 === 0) return oneOf(BYTES)
    const method = oneOf(METHODS)
    const carriesBody = ['POST', 'PUT', 'PATCH', 'DELETE', 'QUERY'].includes(method)
    const [path, some] = [oneOf(PATHS), oneOf(HEADERS)]
    if (!carriesBody) return { method, path, headers: some, body: undefined }
    const body = oneOf(BODIES)
    // Node's client sends the bodies of some methods without it.
    const headers = { ...some, 'content-type': oneOf(TYPES), 'content-length': String(Buffer.byteLength(body)) }
    return { method, path, headers, body }
  })
}
