const MAX_PLACES = 64

/**
 * Makes a function that remembers what it has found for a name by its place in a list. The fields of one request after the
 * other have the same names at the same places: comparing a name takes less than looking it up.
 */
export function byPlace<Found>(find: (name: string) => Found): (name: string, place: number) => Found {
  const memory: { name: string; found: Found }[] = []
  return (name, place) => {
    const last = memory[place]
    if (last?.name === name) return last.found
    const found = find(name)
    if (place < MAX_PLACES) memory[place] = { name, found }
    return found
  }
}
