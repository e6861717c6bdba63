import { registerHooks } from 'node:module'

// Preloaded: what is measured is what is published, and Node does not strip types on the way.
registerHooks({
  resolve(specifier, context, next) {
    const resolved = next(specifier, context)
    const url = resolved.url.replace(/\/packages\/([^/]+)\/src\/(.+)\.ts$/, '/packages/$1/dist/$2.js')
    return url === resolved.url ? resolved : { ...resolved, url, format: 'module' }
  }
})
