import type { Cell } from './cell.ts'
import { clientCells } from './cells/clients.ts'
import { collectorCells } from './cells/collector.ts'
import { noticedCells } from './cells/noticed.ts'
import { outputCells } from './cells/outputs.ts'
import { probeCells } from './cells/probes.ts'
import { processCells } from './cells/process.ts'
import { sentryCells } from './cells/sentry.ts'

/** All faults, group by group. */
export const CELLS: Cell[] = [
  ...collectorCells,
  ...outputCells,
  ...sentryCells,
  ...probeCells,
  ...processCells,
  ...clientCells,
  ...noticedCells
]
