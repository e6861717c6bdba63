import { useEffect, useState } from './preact.js'

const API = '/_observability/api'
const MAX_ROWS = 500

export async function read(path) {
  const response = await fetch(`${API}/${path}`)
  if (!response.ok) throw new Error((await response.json()).message)
  return response.json()
}

/** What the server says, asked again every so many milliseconds. */
export function usePolled(path, everyMs) {
  const [state, setState] = useState({ data: undefined, before: undefined, error: undefined })
  useEffect(() => {
    let isOver = false
    const ask = () =>
      read(path).then(
        (data) => isOver || setState(({ data: before }) => ({ data, before, error: undefined })),
        (error) => isOver || setState((state) => ({ ...state, error }))
      )
    ask()
    const timer = setInterval(ask, everyMs)
    return () => {
      isOver = true
      clearInterval(timer)
    }
  }, [path, everyMs])
  return state
}

/** The last requests and jobs, newest first, as they happen. */
export function useRequests() {
  const [rows, setRows] = useState(new Map())
  const [unrecorded, setUnrecorded] = useState(0)
  const [isConnected, setConnected] = useState(false)
  useEffect(() => {
    const source = new EventSource(`${API}/events`)
    // What the stream brings while the list is on its way. Rows of before may be those of another process, and go.
    let since = new Map()
    source.onopen = async () => {
      setConnected(true)
      since = new Map()
      const { requests, unrecorded: count } = await read('requests')
      setUnrecorded(count)
      setRows(newest([...entriesOf(requests.reverse()), ...since]))
    }
    source.onerror = () => setConnected(false)
    source.addEventListener('unrecorded', ({ data }) => setUnrecorded(Number(data)))
    source.addEventListener('requests', ({ data }) => {
      const entries = entriesOf(JSON.parse(data))
      since = newest([...since, ...entries])
      setRows((before) => newest([...before, ...entries]))
    })
    return () => source.close()
  }, [])
  return { rows: [...rows.values()].reverse(), unrecorded, isConnected }
}

function entriesOf(rows) {
  return rows.map((row) => [row.id, row])
}

function newest(entries) {
  return new Map([...new Map(entries)].slice(-MAX_ROWS))
}
