// A primary that knows nothing of the suite, as PM2's: numbers its two processes, replaces those that end, and ends with them.
const cluster = require('node:cluster')

cluster.setupPrimary({ exec: process.argv[2] })
let isEnding = false

function start(number) {
  const worker = cluster.fork({ NODE_APP_INSTANCE: String(number) })
  worker.once('message', () => process.send(worker.process.pid))
  worker.once('exit', () => isEnding || start(number))
}

start(0)
start(1)
process.on('message', () => {
  isEnding = true
  process.disconnect()
  for (const worker of Object.values(cluster.workers)) worker.process.kill('SIGINT')
})
