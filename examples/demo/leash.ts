// Preloaded into each service: it ends with the demo, even when the demo was killed and could not end it.
process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'))
process.channel?.unref()
