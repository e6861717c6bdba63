// A CommonJS application that has loaded the SDK: prints what was loaded after it, and whether both mean the same client.
const { registerHooks } = require('node:module')
const Sentry = require('@sentry/node')

let esModules = 0
registerHooks({
  load(url, context, next) {
    if (/@sentry[\\/]node[\\/]build[\\/]esm/.test(url)) esModules++
    return next(url, context)
  }
})

async function main() {
  const { default: sentry } = await import('@fastify-observability/sentry')
  const app = require('fastify')()
  await app.register(sentry, { dsn: process.argv[2] })
  app.get('/', async () => {
    throw new Error('broken')
  })
  await app.inject('/')
  const isShared = Sentry.getClient() !== undefined
  await Sentry.flush(120_000)
  await app.close()
  console.log(JSON.stringify({ esModules, isShared }))
}
main()
