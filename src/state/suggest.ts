/**
 * "Did you mean …?": the nearest known word, by optimal string alignment
 * distance (Damerau 1964; Levenshtein plus swaps of neighbours).
 */

/** Distance of `a` and `b`, or `max + 1` as soon as it is more than `max`. */
export function editDistance(a: string, b: string, max: number): number {
  if (Math.abs(a.length - b.length) > max) return max + 1;
  let older: number[] = [];
  let old = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min((old[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (old[j - 1] ?? 0) + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, (older[j - 2] ?? 0) + 1);
      }
      row.push(best);
    }
    if (Math.min(...row) > max) return max + 1;
    older = old;
    old = row;
  }
  return old[b.length] ?? max + 1;
}

/**
 * The candidate nearest to `word`, if one is near enough to be a slip of the
 * fingers; the first by name of several.
 */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.min(2, Math.ceil(word.length / 3));
  for (const candidate of candidates) {
    const distance = editDistance(word, candidate, bestDistance);
    if (distance > bestDistance) continue;
    if (best === undefined || distance < bestDistance || candidate < best) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** `did you mean "web"?`, else what `otherwise` says. */
export function didYouMean(word: string, candidates: Iterable<string>, otherwise: string): string {
  const guess = nearest(word, candidates);
  return guess === undefined ? otherwise : `did you mean "${guess}"?`;
}
