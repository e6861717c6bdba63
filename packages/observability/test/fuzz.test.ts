import { test } from 'tap'
import { fuzz } from './fuzzed.ts'

fuzz(test, 100)
