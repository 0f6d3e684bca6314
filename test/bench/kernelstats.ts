/** The kernel's statistics of BPF programs, on for as long as something is measured with them. */
import { enableStats } from '../../addon/index.ts';

/** Ends with this process too, however that ends: the kernel counts open descriptors. */
export async function withStatistics<T>(work: () => Promise<T>): Promise<T> {
  const statistics = enableStats();
  try {
    return await work();
  } finally {
    statistics.close();
  }
}
