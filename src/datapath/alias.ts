/**
 * Weighted choice in O(1): Walker's alias method, with the tables built as in
 * M. D. Vose, "A linear algorithm for generating random numbers with a given
 * distribution", IEEE TSE 17(9), 1991, p. 972–975.
 *
 * Column i belongs to member i. A fraction below the column's threshold means
 * its own member, any other its alias. A member of weight 0 has threshold 0,
 * a full column is its own alias, so both are exact.
 */

export interface AliasColumn {
  /** Out of 2^32. */
  readonly threshold: number;
  /** Index of the member that takes the rest of the column. */
  readonly alias: number;
}

const scale = 2 ** 32;

/** One column a weight (integers ≥ 0); empty when the weights add up to 0. */
export function aliasTable(weights: readonly number[]): AliasColumn[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (total === 0) return [];
  const count = weights.length;
  // A column holds `total` units; exact integers below 2^53.
  const rest = weights.map((weight) => weight * count);
  const columns: AliasColumn[] = weights.map((_, i) => ({ threshold: scale - 1, alias: i }));
  const small: number[] = [];
  const large: number[] = [];
  for (const [i, units] of rest.entries()) (units < total ? small : large).push(i);
  while (small.length > 0 && large.length > 0) {
    const poor = small.pop() as number;
    const rich = large[large.length - 1] as number;
    const units = rest[poor] as number;
    columns[poor] = {
      threshold: Math.min(Math.floor((units / total) * scale), scale - 1),
      alias: rich,
    };
    const left = (rest[rich] as number) - (total - units);
    rest[rich] = left;
    if (left < total) {
      large.pop();
      small.push(rich);
    }
  }
  return columns;
}

/** Each member's exact share of the draws, as the kernel makes them. */
export function sharesOf(columns: readonly AliasColumn[], members: number): number[] {
  const shares = Array.from({ length: members }, () => 0);
  for (const [i, column] of columns.entries()) {
    const own = column.threshold / scale;
    shares[i] = (shares[i] ?? 0) + own / columns.length;
    shares[column.alias] = (shares[column.alias] ?? 0) + (1 - own) / columns.length;
  }
  return shares;
}
