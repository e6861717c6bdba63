/** How much is held. What is beyond falls out, the oldest first. */
export interface HoldingLimits {
  /** Of one owner. */
  maxBytes: number
  /** Of all owners together. */
  maxTotalBytes: number
}

/** All that is held for one purpose: the owners that hold something, in the order in which they began. */
export class Holdings {
  readonly limits: HoldingLimits
  bytes = 0
  oldest: Holding | undefined
  newest: Holding | undefined

  constructor(limits: HoldingLimits) {
    this.limits = limits
  }
}

/** What one owner, such as a request, holds until it is known whether anybody needs it. */
export abstract class Holding {
  /** What it takes of memory, about; 0 only where nothing is held. */
  bytes = 0
  /** The items that fell out. */
  missing = 0
  older: Holding | undefined
  newer: Holding | undefined
  private readonly holdings: Holdings

  constructor(holdings: Holdings) {
    this.holdings = holdings
  }

  /** Forgets the oldest item: calls `removed` with its size. */
  protected abstract forgetOldest(): void

  /** Called when an item has been added. */
  protected added(bytes: number): void {
    const { holdings: all } = this
    const { maxBytes, maxTotalBytes } = all.limits
    if (this.bytes === 0) this.link()
    this.bytes += bytes
    all.bytes += bytes
    while (this.bytes > maxBytes) this.dropOldest()
    while (all.bytes > maxTotalBytes && all.oldest) all.oldest.dropOldest()
  }

  /** Called when an item, or all that is held, has been taken out. */
  protected removed(bytes: number): void {
    if (bytes === 0) return
    this.bytes -= bytes
    this.holdings.bytes -= bytes
    if (this.bytes === 0) this.unlink()
  }

  protected dropOldest(): void {
    this.missing++
    this.forgetOldest()
  }

  private link(): void {
    const { holdings: all } = this
    this.older = all.newest
    if (all.newest) all.newest.newer = this
    else all.oldest = this
    all.newest = this
  }

  private unlink(): void {
    const { holdings: all, older, newer } = this
    if (older) older.newer = newer
    else all.oldest = newer
    if (newer) newer.older = older
    else all.newest = older
    this.older = this.newer = undefined
  }
}
