// node build.mjs FOLDER ENTRY BUNDLERS [EXTERNAL…]: the bundles of an entry, as docs/bundles.md has them.
import commonjs from '@rollup/plugin-commonjs'
import json from '@rollup/plugin-json'
import resolve from '@rollup/plugin-node-resolve'
import * as esbuild from 'esbuild'
import { rollup } from 'rollup'
import * as tsup from 'tsup'

const [folder, entry, bundlers, ...external] = process.argv.slice(2)
// Fastify and others are CommonJS, which asks for `require` in an ES module too.
const REQUIRE =
  "import { createRequire as bundleRequire } from 'node:module'; const require = bundleRequire(import.meta.url)"
const FORMATS = [
  { format: 'esm', extension: '.mjs', banner: REQUIRE },
  { format: 'cjs', extension: '.cjs', banner: '' }
]
const shared = { platform: 'node', target: 'node22', external }

if (bundlers.includes('esbuild')) {
  for (const { format, extension, banner } of FORMATS) {
    const outfile = `${folder}/esbuild${extension}`
    await esbuild.build({ ...shared, entryPoints: [entry], bundle: true, format, outfile, banner: { js: banner } })
  }
}
if (bundlers.includes('tsup')) {
  for (const { format, extension, banner } of FORMATS) {
    await tsup.build({
      ...shared,
      config: false,
      silent: true,
      entry: { tsup: entry },
      format,
      outDir: folder,
      outExtension: () => ({ js: extension }),
      // What package.json names stays outside otherwise.
      noExternal: [/.*/],
      splitting: false,
      banner: { js: banner }
    })
  }
}
if (bundlers.includes('rollup')) {
  const bundle = await rollup({
    input: entry,
    external,
    logLevel: 'silent',
    plugins: [resolve({ preferBuiltins: true, exportConditions: ['node'] }), commonjs(), json()]
  })
  for (const { format, extension, banner } of FORMATS) {
    await bundle.write({ format, file: `${folder}/rollup${extension}`, inlineDynamicImports: true, banner })
  }
}
