// What a function URL is: `node lambda-url.mjs aws-lambda.mjs` serves a handler over HTTP.
import { once } from 'node:events'
import { createServer } from 'node:http'

const { handler } = await import(new URL(process.argv[2], import.meta.url).href)
const server = createServer(async ({ method, url, headers }, response) => {
  const { pathname, search } = new URL(url, 'http://localhost')
  const answer = await handler({
    version: '2.0',
    rawPath: pathname,
    rawQueryString: search.slice(1),
    headers,
    requestContext: { http: { method, path: pathname, sourceIp: '203.0.113.7' }, stage: '$default' },
    isBase64Encoded: false
  })
  const encoding = answer.isBase64Encoded ? 'base64' : 'utf8'
  response.writeHead(answer.statusCode, answer.headers).end(Buffer.from(answer.body, encoding))
}).listen(0, '127.0.0.1')
await once(server, 'listening')
console.log(JSON.stringify({ msg: `Server listening at http://127.0.0.1:${server.address().port}` }))
