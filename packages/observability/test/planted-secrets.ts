const base64 = (text: string): string => Buffer.from(text).toString('base64')
const base64url = (text: string): string => Buffer.from(text).toString('base64url')
const percent = (text: string): string => text.replace(/[^\w]/g, (sign) => encodeURIComponent(sign))
const twice = (text: string): string => percent(percent(text))
const allPercent = (text: string): string => Buffer.from(text).toString('hex').replace(/../g, '%$&')
const unicode = (text: string): string => text.replace(/[=&<>]/g, (sign) => `\\u00${sign.charCodeAt(0).toString(16)}`)
const query = (name: string) => (secret: string) => `GET https://api.test/orders?page=2&${name}=${secret}&sort=asc`
const header =
  (name: string, scheme = '') =>
  (secret: string) =>
    `GET / HTTP/1.1\r\n${name}: ${scheme}${secret}\r\nhost: a`
const json = (name: string) => (secret: string) => JSON.stringify({ page: 2, [name]: secret, sort: 'asc' })

/** How a secret stands in a text: in a message, a field, an attribute, wherever a text can be. */
export const FORMS: Record<string, (secret: string) => string> = {
  'authorization, basic': (secret) => header('Authorization', 'Basic ')(base64(`me:${secret}`)),
  'authorization, bearer': header('authorization', 'Bearer '),
  'authorization, digest': (secret) => header('authorization')(`Digest username="me", nonce="1", response="${secret}"`),
  'authorization, of AWS': (secret) =>
    header('Authorization')(`AWS4-HMAC-SHA256 Credential=${secret}/20261127, SignedHeaders=host, Signature=${secret}`),
  'proxy-authorization': header('proxy-authorization', 'Basic '),
  cookie: (secret) => header('cookie')(`theme=dark; sid=${secret}; lang=de`),
  'set-cookie': (secret) => header('set-cookie')(`sid=${secret}; Path=/; HttpOnly`),
  'x-api-key': header('X-Api-Key'),
  'x-auth-token': header('x-auth-token'),
  'x-amz-security-token': header('x-amz-security-token'),
  'x-csrf-token': header('x-csrf-token'),
  'x-goog-api-key': header('x-goog-api-key'),
  'x-vault-token': header('x-vault-token'),
  'ocp-apim-subscription-key': header('ocp-apim-subscription-key'),
  'a token in forwarded': (secret) => header('forwarded')(`for=10.0.0.1;token=${secret};proto=https`),
  'a command of curl': (secret) => `curl -H "authorization: Bearer ${secret}" https://api.test`,
  'a flag of a command': (secret) => `mysql --user me --password ${secret} shop`,

  'a parameter': query('access_token'),
  'the first parameter': (secret) => `GET /orders?token=${secret}`,
  'a signature': query('sig'),
  'a signature of S3': query('X-Amz-Signature'),
  'the code of OAuth': query('code'),
  'the state of OAuth': query('state'),
  'the answer of SAML': query('SAMLResponse'),
  'a parameter in brackets': query('user[token]'),
  'a parameter in encoded brackets': query('user%5Bpassword%5D'),
  'a list of parameters': query('tokens[]'),
  'a parameter with an encoded name': query('pass%77ord'),
  'a parameter with a name that is all encoded': query(allPercent('password')),
  'a parameter with a plus in its name': query('api+key'),
  'an encoded value': (secret) => query('password')(allPercent(secret)),
  'a value with a plus': (secret) => query('password')(`a+${secret}`),
  'a value with an encoded ampersand': (secret) => query('password')(`a%26b${secret}`),
  'an encoded address': (secret) => `redirect to /login?next=${percent(query('token')(secret))}`,
  'an address encoded twice': (secret) => `redirect to /login?next=${twice(query('token')(secret))}`,
  'JSON in a parameter': (secret) => query('filter')(`{"password":"${secret}"}`),
  'encoded JSON in a parameter': (secret) => query('filter')(percent(json('password')(secret))),
  'a fragment': (secret) => `https://app.test/callback#access_token=${secret}&token_type=bearer`,
  'an address in HTML': (secret) => `<a href="/orders?page=2&amp;code=${secret}&amp;sort=asc">`,
  'an address in JSON of Go': (secret) => unicode(query('code')(secret)),
  'an address in JSON that escapes all': (secret) => unicode(query('sig')(secret)),
  'a semicolon between parameters': (secret) => `GET /orders?page=2;token=${secret};sort=asc`,

  'user and password in an address': (secret) => `cannot reach https://me:${secret}@api.test/orders`,
  'a password with signs in an address': (secret) => `cannot reach https://me:p/${secret}?@api.test/orders`,
  'postgres://': (secret) => `connect to postgres://shop:${secret}@db:5432/shop?sslmode=require`,
  'mysql://': (secret) => `connect to mysql://shop:${secret}@db/shop`,
  'redis://': (secret) => `connect to redis://:${secret}@redis:6379/0`,
  'rediss://': (secret) => `connect to rediss://default:${secret}@redis:6379/0`,
  'amqp://': (secret) => `connect to amqp://shop:${secret}@mq:5672/%2f`,
  'mongodb://': (secret) => `connect to mongodb+srv://shop:${secret}@a.test,b.test/shop?retryWrites=true`,
  'a connection string of SQL Server': (secret) => `Server=db;User Id=sa;Password=${secret};Encrypt=true`,
  'a connection string of Azure': (secret) => `AccountName=shop;AccountKey=${secret}==;EndpointSuffix=core.test`,
  'a connection string of libpq': (secret) => `host=db user=shop password='${secret}' dbname=shop`,
  'a variable of the environment': (secret) => `DB_PASSWORD=${secret} AWS_SECRET_ACCESS_KEY=${secret}`,

  'a JWT': (secret) => `verify eyJhbGciOiJIUzI1NiJ9.${base64url(`{"sub":"${secret}"}`)}.${base64url(secret)} failed`,
  'a private key': (secret) => `-----BEGIN RSA PRIVATE KEY-----\n${base64(secret)}\n-----END RSA PRIVATE KEY-----`,
  'a private key in JSON': (secret) =>
    JSON.stringify({ pem: `-----BEGIN PRIVATE KEY-----\n${base64(secret)}\n-----END PRIVATE KEY-----\n` }),
  'a key of Stripe': (secret) => `charge with sk_live_${secret} failed`,
  'a token of GitHub': (secret) => `push ghp_${secret.padEnd(36, '0')} denied`,
  'a key of an assistant': (secret) => `use sk-ant-${secret.padEnd(24, '0')}`,

  JSON: json('password'),
  'JSON, a nested key': (secret) => `{"user":{"name":"me","apiKey":"${secret}"}}`,
  'JSON in JSON': (secret) => JSON.stringify({ body: json('client_secret')(secret) }),
  'JSON in JSON in JSON': (secret) => JSON.stringify({ a: JSON.stringify({ body: json('token')(secret) }) }),
  'JSON with a quote in the value': (secret) => json('password')(`a"${secret}`),
  'JSON with a name in escapes': (secret) => `{"page":2,"pass\\u0077ord":"${secret}"}`,
  'JSON, a list': (secret) => `{"tokens":["a","${secret}"]}`,
  'JSON that was cut': (secret) => `{"page":2,"password":"${secret}`,
  'an object as Node shows it': (secret) => `{ user: 'me', password: '${secret}' }`,
  'a hash of Ruby': (secret) => `{:user=>"me", :password=>"${secret}"}`,
  'variables of GraphQL': (secret) =>
    `{"query":"mutation($p: String!){login(p: $p)}","variables":{"password":"${secret}"}}`,
  'an argument of GraphQL': (secret) => `mutation { login(user: "me", password: "${secret}") { id } }`,
  'a form body': (secret) => `user=me&password=${secret}&remember=on`,
  'a form body, encoded': (secret) => percent(`user=me&password=${secret}&remember=on`),
  XML: (secret) => `<login><user>me</user><password>${secret}</password></login>`,
  'XML with CDATA': (secret) => `<login><apiKey><![CDATA[${secret}]]></apiKey></login>`,
  YAML: (secret) => `database:\n  user: me\n  password: ${secret}\n`,
  'a name of the application': (secret) => `licence=${secret}`,
  prose: (secret) => `the password is wrong: password: ${secret}, try again`
}

/** What callers send. */
export const HEADERS: Record<string, (secret: string) => string> = {
  authorization: (secret) => `Bearer ${secret}`,
  'proxy-authorization': (secret) => `Basic ${base64(`me:${secret}`)}`,
  cookie: (secret) => `theme=dark; sid=${secret}`,
  'x-api-key': (secret) => secret,
  'x-auth-token': (secret) => secret,
  'x-csrf-token': (secret) => secret,
  'x-xsrf-token': (secret) => secret,
  'x-amz-security-token': (secret) => secret,
  'x-amz-signature': (secret) => secret,
  'x-hub-signature-256': (secret) => `sha256=${secret}`,
  'x-goog-iap-jwt-assertion': (secret) => `eyJhbGciOiJIUzI1NiJ9.${base64url(secret)}.${base64url(secret)}`,
  'x-forwarded-access-token': (secret) => secret,
  'x-session-id': (secret) => secret,
  'x-licence': (secret) => secret,
  forwarded: (secret) => `for=10.0.0.1;token=${secret}`,
  referer: (secret) => `https://shop.test/reset?token=${secret}`,
  baggage: (secret) => `session_token=${secret}`,
  'user-agent': (secret) => `tool/1.0 token=${secret}`
}

/** What callers ask for, behind the question mark. */
export const QUERIES: Record<string, (secret: string) => string> = {
  'the code of OAuth, first': (secret) => `code=${secret}&scope=openid`,
  state: (secret) => `scope=openid&state=${secret}`,
  'a plain name': (secret) => `password=${secret}`,
  'an encoded name': (secret) => `pass%77ord=${secret}`,
  'an encoded name of a parameter that is secret in addresses only': (secret) => `c%6Fde=${secret}`,
  'an encoded value': (secret) => `token=${allPercent(secret)}`,
  'an address encoded twice': (secret) => `next=${twice(`https://a.test/?code=${secret}`)}`,
  brackets: (secret) => `user[token]=${secret}&user%5Bapi_key%5D=${secret}`,
  'a plus': (secret) => `client+secret=${secret}`,
  JSON: (secret) => `filter=${percent(json('token')(secret))}`,
  'a fragment': (secret) => `a=1#access_token=${secret}`,
  'a second question mark': (secret) => `a=1?token=${secret}`,
  'a JWT': (secret) => `q=eyJhbGciOiJIUzI1NiJ9.${base64url(secret)}.${base64url(secret)}`,
  'a name of the application': (secret) => `licence=${secret}`
}

/** Values of a field that is named like a secret. */
export const VALUES: Record<string, (secret: string) => unknown> = {
  text: (secret) => secret,
  list: (secret) => [secret, secret],
  object: (secret) => ({ value: secret }),
  'object of objects': (secret) => ({ a: { b: { c: secret } } }),
  map: (secret) => new Map([['a', secret]]),
  set: (secret) => new Set([secret]),
  buffer: (secret) => Buffer.from(secret),
  bytes: (secret) => new Uint8Array(Buffer.from(secret)),
  address: (secret) => new URL(`https://api.test/${secret}`),
  parameters: (secret) => new URLSearchParams({ a: secret }),
  headers: (secret) => new Headers({ a: secret }),
  symbol: (secret) => Symbol(secret),
  boxed: (secret) => new String(secret),
  error: (secret) => new Error(secret),
  'class with toJSON': (secret) => ({ toJSON: () => secret }),
  getter: (secret) => Object.defineProperty({}, 'a', { get: () => secret, enumerable: true }),
  'null prototype': (secret) => Object.assign(Object.create(null), { a: secret }),
  regexp: (secret) => new RegExp(secret)
}

/** What holds a secret under a name of its own. */
export const HOLDERS: Record<string, (secret: string) => unknown> = {
  password: (password) => ({ password }),
  'any case': (secret) => ({ PASSWORD: secret, dbPassWord: secret, 'X-Api-Key': secret }),
  'a list of objects': (token) => [{ id: 1, token }],
  map: (secret) => new Map([['password', secret]]),
  'map of a map': (secret) => new Map([['user', new Map([['apiKey', secret]])]]),
  'set of objects': (token) => new Set([{ token }]),
  headers: (secret) => new Headers({ authorization: `Bearer ${secret}`, cookie: `sid=${secret}`, 'x-api-key': secret }),
  'raw headers': (secret) => ({ rawHeaders: ['host', 'a', 'authorization', secret] }),
  'pairs of headers': (secret) => [['authorization', secret]],
  'headers by name and value': (secret) => [{ name: 'authorization', value: secret }],
  address: (secret) => new URL(`https://me:${secret}@api.test/?token=${secret}`),
  parameters: (secret) => new URLSearchParams({ page: '2', password: secret }),
  toJSON: (token) => ({ toJSON: () => ({ user: { token } }) }),
  getter: (secret) => Object.defineProperty({}, 'token', { get: () => secret, enumerable: true }),
  'null prototype': (secret) => Object.assign(Object.create(null), { secret }),
  'a class': (secret) =>
    new (class Account {
      apiKey = secret
    })(),
  'the error of a client': (secret) => clientError(secret),
  'a cause': (secret) => new Error('a', { cause: clientError(secret) }),
  'a form': (secret) => {
    const form = new FormData()
    form.set('password', secret)
    return form
  },
  'text as JSON': (secret) => ({ body: JSON.stringify({ password: secret }) }),
  'an escaped key': (secret) => ({ [`token=${secret}`]: 1 })
}

/** What is thrown and is no plain error, beside all holders. */
export const THROWN: Record<string, (secret: string) => unknown> = {
  text: (secret) => `password=${secret}`,
  'a pair': (secret) => ['authorization', secret],
  'a list': (secret) => [['authorization', secret], { password: secret }],
  symbol: (secret) => Symbol(`token=${secret}`),
  function: (secret) => new Function(`return { password: '${secret}' }`),
  'a class': (secret) => new Function(`return class { password = '${secret}' }`)(),
  bytes: (secret) => Buffer.from(`authorization ${secret}`),
  'an own text': (secret) => ({ password: secret, toString: () => `authorization,${secret}` }),
  'an own primitive': (secret) => ({ [Symbol.toPrimitive]: () => `authorization,${secret}` }),
  'a message': (secret) => ({ message: `password=${secret}`, name: `token=${secret}`, stack: `token=${secret}` }),
  'a message that is a list': (secret) => Object.assign(new Error(), { message: ['authorization', secret] }),
  'a stack that is a list': (secret) => Object.assign(new Error('a'), { stack: ['authorization', secret] }),
  name: (secret) => Object.assign(new Error('a'), { name: `token=${secret}` }),
  'a name that is a list': (secret) => Object.assign(new Error('a'), { name: ['authorization', secret] }),
  code: (secret) => Object.assign(new Error('a'), { code: `token=${secret}` }),
  'a code that is a list': (secret) => Object.assign(new Error('a'), { code: ['authorization', secret] }),
  'a cause that is a list': (secret) => new Error('a', { cause: ['authorization', secret] })
}

/** As axios throws it. */
export function clientError(secret: string): Error {
  const headers = { authorization: `Bearer ${secret}`, 'x-api-key': secret }
  const config = {
    url: `/?token=${secret}`,
    headers,
    auth: { username: 'me', password: secret },
    data: json('token')(secret)
  }
  const request = { _header: `GET / HTTP/1.1\r\nAuthorization: Bearer ${secret}\r\n\r\n` }
  const response = { status: 401, headers: { 'set-cookie': [`sid=${secret}`] }, data: { token: secret } }
  return Object.assign(new Error('Request failed with status code 401'), { config, request, response })
}

/** Statements of databases, by the system that they are of. */
export const STATEMENTS: [system: string, statement: (secret: string) => string][] = [
  ['postgresql', (secret) => `SELECT * FROM users WHERE name = '${secret}'`],
  ['postgresql', (secret) => `ALTER USER shop PASSWORD E'${secret}\\'' -- ${secret}`],
  ['postgresql', (secret) => `SELECT $a$${secret}$a$ /* ${secret} */`],
  ['mysql', (secret) => `SELECT * FROM users WHERE name = "${secret}" # ${secret}`],
  ['mongodb', (secret) => `{"find":"users","filter":{"password":"${secret}"}}`],
  ['elasticsearch', (secret) => `{"query":{"term":{"api_key":"${secret}"}}}`],
  ['redis', (secret) => `AUTH default ${secret}`],
  ['redis', (secret) => `CONFIG SET requirepass ${secret}`],
  ['redis', (secret) => `HELLO 3 AUTH default ${secret}`]
]

const boundary = '--a\r\ncontent-disposition: form-data; name="password"\r\n\r\n'

/** What the READMEs say is not found, and why. */
export const OUTSIDE: Record<string, [why: string, text: (secret: string) => string]> = {
  prose: ['no sign stands between name and value', (secret) => `the password ${secret} is wrong`],
  'a path': ['its segments have no names', (secret) => `GET /reset/${secret}`],
  'a multipart body': ['the name stands in a line of its own', (secret) => `${boundary}${secret}\r\n--a--`],
  'base64 that nothing names': ['it looks like any id', (secret) => `got ${base64(`me:${secret}`)}`],
  'hex that nothing names': [
    'it looks like any digest',
    (secret) => `got ${Buffer.from(`me:${secret}`).toString('hex')}`
  ],
  'the number of a card that nothing names': ['it looks like any number', (secret) => `paid by ${secret}`],
  'a code that is no parameter': ['code and state mean anything elsewhere', (secret) => `code: ${secret}`]
}
