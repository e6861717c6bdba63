import { installed, type Manifest } from './manifest.ts'

/** A package that is installed for the application. */
export interface InstalledPackage extends Manifest {
  /** Who asks for it, by name. */
  readonly askedBy: string[]
}

// Far beyond what a service has.
const MOST = 20_000

/** All packages that an application gets by `import`, directly or through others, each copy once. */
export function dependencyTree(application: Manifest): InstalledPackage[] {
  const found = new Map<string, InstalledPackage>()
  const waiting: Manifest[] = [application]
  for (let asking = waiting.pop(); asking && found.size < MOST; asking = waiting.pop()) {
    for (const name of namesIn(asking)) {
      const manifest = installed(name, asking.folder)
      if (!manifest) continue
      const known = found.get(manifest.folder)
      if (known) {
        known.askedBy.push(asking.name)
        continue
      }
      const one = { ...manifest, askedBy: [asking.name] }
      found.set(manifest.folder, one)
      waiting.push(one)
    }
  }
  return [...found.values()]
}

function namesIn({ dependencies, optionalDependencies, peerDependencies }: Manifest): string[] {
  return Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })
}
