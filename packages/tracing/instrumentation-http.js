// For bundlers, by `imports` of package.json: the ES modules of this package hide one of its dependencies from them.
export { HttpInstrumentation } from './instrumentation-http.cjs'
