const METHODS = [
  'GET',
  'GET',
  'GET',
  'POST',
  'PUT',
  'OPTIONS',
  'HEAD',
  'get',
  'M-SEARCH',
  'CONNECT',
  'PRI',
  'FOO',
  'G\0T',
  ''
]
const TARGETS = [
  ...[
    '/json',
    '/json',
    '/json',
    '/echo',
    '/echo',
    '/text',
    '/early',
    '/boom',
    '/torn',
    '/stream',
    '/hijacked',
    '/written'
  ],
  ...[
    'http://shop.example/json',
    'https://me:pw@shop.example/json?a=1',
    'http://',
    'ftp://a/json',
    '*',
    'shop.example:443'
  ],
  ...[
    'json',
    '?a=1',
    '',
    '/json json',
    '/json#x',
    '/%',
    '/%c0%af',
    '/%00',
    '/js\xf6n',
    '/json?\x80\xff',
    '/\0',
    '//json'
  ],
  ...[
    '/../json',
    '/typed/1e3',
    '/typed/%2e',
    '/wild/%2F%2f',
    `/wild/${'x'.repeat(9_000)}`,
    `/json?${'y'.repeat(17_000)}`
  ]
]
const VERSIONS = [
  'HTTP/1.1',
  'HTTP/1.1',
  'HTTP/1.1',
  'HTTP/1.1',
  'HTTP/1.0',
  'HTTP/2.0',
  'HTTP/0.9',
  'http/1.1',
  'HTTP/1.',
  ''
]
const WEBSOCKET = 'upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA=='
const HEADERS = [
  ...[
    'host: b',
    'Host:c',
    'host : d',
    'host:',
    ' folded: first',
    'x: a\r\n folded',
    'x: a\r\n\tfolded',
    'x: \x80\xff',
    'x:'
  ],
  ...[
    ': nameless',
    'no colon',
    '\0: a',
    'x: \0',
    'x\xe4: a',
    `x: ${'y'.repeat(17_000)}`,
    'x: a\r\n'.repeat(2_100).trim()
  ],
  ...['content-length: 7', 'content-length: 5', 'content-length: -1', 'content-length: 5, 5', 'content-length: abc'],
  ...['content-length: 5\r\ncontent-length: 6', 'content-length: 99999', 'content-length: 99999999999999999999'],
  ...['transfer-encoding: chunked', 'transfer-encoding: chunked', 'transfer-encoding: gzip, chunked'],
  ...['transfer-encoding: identity', 'transfer-encoding: chunked, chunked', 'te: trailers\r\ntrailer: x'],
  ...[
    'expect: 100-continue',
    'expect: nonsense',
    'connection: close',
    'connection: keep-alive',
    'keep-alive: timeout=1'
  ],
  ...[`connection: upgrade\r\n${WEBSOCKET}`, 'connection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__'],
  ...['content-type: application/json', 'content-type: text/plain', 'content-type: \x80', 'accept-encoding: gzip'],
  ...[
    'x-request-id: caller',
    'x-request-id: \x80',
    'x-correlation-id: a\r\nx-correlation-id: b',
    'traceparent: nonsense'
  ],
  ...['traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', 'baggage: a=\xff', 'cookie: \x80=1']
]
const BODIES = [
  ...[
    '',
    '',
    '{"a":1}',
    'hello',
    'hello\r\n\r\n',
    'GET /json HTTP/1.1\r\nhost: a\r\n\r\n',
    'GET /boom HTTP/1.1\r\n\r\n'
  ],
  ...[
    '5\r\nhello\r\n0\r\n\r\n',
    '5;a=b\r\nhello\r\n0\r\nx: trailer\r\n\r\n',
    '7\r\n{"a":1}\r\n0\r\n\r\n',
    '5\r\nhel',
    'zz\r\n'
  ],
  ...[
    '0\r\n\r\nGET /text HTTP/1.1\r\nhost: a\r\n\r\n',
    'FFFFFFFFFFFFFFFFF\r\n',
    '5\r\nhelloX0\r\n\r\n',
    `${'z'.repeat(5_000)}`
  ]
]

/** What is sent over a socket, a byte for each character: the same for the same seed. */
export function rawRequests(seed: number, count: number): string[] {
  let state = seed
  // https://en.wikipedia.org/wiki/Linear_congruential_generator, with the constants of Numerical Recipes.
  function below(limit: number): number {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * limit)
  }
  const oneOf = (texts: readonly string[]): string => texts[below(texts.length)] ?? ''

  function request(): string {
    // Most are sound but for one thing or two: a server reads no further than the first fault.
    const [method, target] = [below(4) ? oneOf(METHODS.slice(0, 7)) : oneOf(METHODS), oneOf(TARGETS)]
    const line = `${method} ${target} ${below(4) ? 'HTTP/1.1' : oneOf(VERSIONS)}`
    const headers = Array.from({ length: below(3) }, () => oneOf(HEADERS))
    const head = [line, ...(below(8) ? ['host: a'] : []), ...headers]
    const end = below(12) ? '\r\n' : oneOf(['\n', '\r', '\r\n\r\n'])
    return `${head.join(end)}${end}${end}${oneOf(BODIES)}`
  }

  /** With a byte of another value, or cut. */
  function damaged(text: string): string {
    const at = below(Math.min(text.length, 200))
    return below(3) ? text.slice(0, at) + String.fromCharCode(below(256)) + text.slice(at + 1) : text.slice(0, at)
  }

  return Array.from({ length: count }, () => {
    const kind = below(10)
    if (kind === 0) return damaged(request())
    if (kind === 1) return request() + request() + request()
    return request()
  })
}
