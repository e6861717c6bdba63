module.exports = require('@opentelemetry/instrumentation-http')
